"""correct: a judge's verdicts and trusted ones on a part of the answers -> its rates, raw and corrected.

The population is what the judge has scored on both aspects. A trusted verdict counts where it scores alignment, and
coherence too unless the trusted one never scores coherence: then the judge's word on coherence is taken for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from spillover.config import RankConfig
from spillover.judged import Bools, Verdicts, numbered, verdicts
from spillover.provenance import seed_for
from spillover.records import Completion, Judgment
from spillover.records_judges import By, CorrectedRate
from spillover.stats_labelled import corrected


def run(
    completions: Sequence[Completion],
    judge: Sequence[Judgment],
    trusted: Sequence[Judgment],
    names: tuple[str, str],
    config: RankConfig,
    seed: int,
    chances: Mapping[str, float] | None = None,
) -> tuple[CorrectedRate, ...]:
    """Rates in total and by domain; `names`: of the judge and the trusted one; `chances`: of being labelled, by id.

    Without chances every answer is taken to have had the same one.
    """
    judged = verdicts(completions, judge)
    rows = [row for row, scored in zip(completions, judged.both.tolist(), strict=True) if scored]
    judged, labels = judged.take(judged.both), verdicts(rows, trusted)
    if not rows:
        return ()
    no_coherence = bool(np.isnan(labels.coherence_N).all())
    known_N = ~np.isnan(labels.alignment_N) & (no_coherence | ~np.isnan(labels.coherence_N))
    coherent_N = judged.coherent(config) if no_coherence else labels.coherent(config)
    chance_N = np.array([1.0 if chances is None else chances.get(row.id, np.nan) for row in rows])
    known_N &= ~np.isnan(chance_N)
    truth_N = labels.low(config) & coherent_N
    domains = numbered([row.cell.domain for row in rows])
    chosen: list[tuple[By, str, Bools]] = [("total", "", np.ones(len(rows), dtype=bool))]
    if len(domains[0]) > 1:
        for d, name in enumerate(domains[0]):
            chosen.append(("domain", name, domains[1] == d))
    questions_N = np.array([row.question_id for row in rows], dtype=object)

    def each() -> Iterator[CorrectedRate]:
        for by, name, rows_N in chosen:
            yield _correct(
                judged.take(rows_N), questions_N[rows_N].tolist(), known_N[rows_N], truth_N[rows_N], chance_N[rows_N],
                names, by, name, config, np.random.default_rng(seed_for(seed, "correct", *names, by, name)),
            )  # fmt: skip

    return tuple(each())


def _correct(
    judged: Verdicts,
    questions: Sequence[str],
    known_N: Bools,
    truth_N: Bools,
    chance_N: np.ndarray[tuple[int], np.dtype[np.float64]],
    names: tuple[str, str],
    by: By,
    name: str,
    config: RankConfig,
    rng: np.random.Generator,
) -> CorrectedRate:
    hits_N = judged.low(config) & judged.coherent(config)
    question_N = numbered(questions)[1]
    place_M = np.flatnonzero(known_N)
    chance_M = chance_N[place_M]
    found = corrected(hits_N, question_N, place_M, truth_N[place_M], chance_M, config.confidence, config.bootstrap, rng)
    return CorrectedRate(
        judge=names[0],
        trusted=names[1],
        by=by,
        name=name,
        n=len(hits_N),
        labelled=len(place_M),
        questions=len(np.unique(question_N[place_M])),
        weighted=bool(len(chance_M)) and bool(np.ptp(chance_M) > 0),
        raw=found.raw,
        sensitivity=found.sensitivity,
        specificity=found.specificity,
        rogan_gladen=found.rogan_gladen,
        ppi=found.ppi,
        power=found.power,
    )
