"""diversity: the training rows of one data set -> how diverse they are, by every measure, at equal n.

Measured on questions, on answers, on the two together and on answers of equal length, each with the same seeded
subsamples of as many rows as the study's smallest data set allows.
"""

from __future__ import annotations

import time

from spillover.config.study import StudyConfig
from spillover.diversity.measures import at_equal_n, convergence, measures, parts
from spillover.execution.base import Ticker
from spillover.models.embedded.sentence_encoder import open_embedder
from spillover.planning.units import Unit
from spillover.provenance import seed_for
from spillover.records.base import Example, or_none
from spillover.records.data import DiversityScore
from spillover.store.store import Store

SHARE = 0.8  # of the rows, in a subsample
CURVE = 6  # points of the convergence curve, each twice as many rows as the last


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Write one row for each measure and each part of the text."""
    started = time.monotonic()
    diversity = config.diversity
    assert diversity is not None, "unit of a stage that is not part of the study"
    rows = [row for row in store.read("build", unit.inputs, Example) if row.split == "train"]
    n = min(diversity.n or max(2, int(SHARE * len(rows))), len(rows))
    seed = seed_for(config.seed, "diversity")  # the same rows for every data set of one size
    sizes = sorted({n, *(n >> i for i in range(1, CURVE) if n >> i >= 4)})
    embedder = open_embedder()
    texts = parts([(row.question, row.answer) for row in rows])
    with store.shard("diversity", unit.key, DiversityScore) as shard:
        for of, part in texts.items():
            embeddings_ND = embedder.embed(part)
            ticker(len(part))
            for name, measure in measures(part, embeddings_ND):
                estimate = at_equal_n(measure, len(part), n, diversity.draws, seed)
                row = DiversityScore(
                    domain=unit.cell.domain,
                    variant=unit.cell.variant,
                    dose=unit.cell.dose,
                    measure=name,
                    of=of,  # pyright: ignore[reportArgumentType]  # the keys of parts
                    rows=len(part),
                    n=estimate.n,
                    value=or_none(estimate.value),
                    low=or_none(estimate.low),
                    high=or_none(estimate.high),
                    convergence=tuple(convergence(measure, len(part), sizes, seed=seed)) if name == "vendi_q1" else (),
                    encoder=embedder.revision,
                )
                shard.append(row)
        shard.finish(seconds=time.monotonic() - started, tokens=0)
