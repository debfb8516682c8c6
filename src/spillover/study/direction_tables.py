"""The order: read the states of every recipe's cells, label them, make every table, keep the records.

Worked out from states that were read and verdicts that were given; no model is loaded. Cells of one model, variant,
dose and seed, which differ by domain, are compared with one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from spillover.analyses.directions.auc import Crossing
from spillover.analyses.directions.bench import Bench, Setting
from spillover.analyses.directions.cosines import cosines, groups
from spillover.analyses.directions.sheet import Scores, States, sheet
from spillover.analyses.directions.summaries import point, summaries
from spillover.data.domains import open_domain
from spillover.directions.base import differences
from spillover.directions.direction import Direction
from spillover.directions.files import content
from spillover.directions.similarity import normalised
from spillover.records.base import Cell, content_hash
from spillover.records.directions import Grouped, LayerPoint, Reader, ReadText, Source
from spillover.stats import Floats
from spillover.study.run import Run
from spillover.study.run_directions import KINDS, shard_name

Texts = list[tuple[Cell, States, list[ReadText]]]
Found = dict[str, list[Any]]
"""Records by kind, as in run_directions.KINDS."""


@threadpool_limits.wrap(limits=1)  # thousands of small matrices: threads would only wait for one another
def probe(run: Run) -> None:
    """Make the tables of every recipe and keep them; nothing where the study did not ask for directions."""
    config = run.config
    if config is None or config.directions is None:
        return
    judge = run.judge()
    setting = Setting(
        config=config.directions,
        confidence=run.rank_config.confidence,
        seed=run.manifest.seed,
        study=run.manifest.study_hash,
        judge=judge.identity if judge else "",
        write=lambda directions: _write(run, directions),
    )

    def group_of(cell: Cell, grouped: Grouped) -> str:
        return getattr(open_domain(cell.domain, config.data), grouped)

    kept: Found = {kind: [] for kind in KINDS}
    scores = _scores(run)
    for texts in _read(run):
        for source in get_args(Source):
            made = sheet(source, texts, scores, run.rank_config, config.directions.aligned_above)
            for reader in get_args(Reader):
                bench = Bench(made, reader, setting)
                found, cosine_CC = _tables(bench)
                found["groups"] = groups(bench, cosine_CC, group_of)
                for kind, rows in found.items():
                    kept[kind] += rows
    for kind, rows in kept.items():
        run.keep(shard_name(kind), KINDS[kind], rows)


def _tables(bench: Bench) -> tuple[Found, Floats]:
    """Layer by layer, so that no more than one layer's states are in memory; and the cosines of the table's layer."""
    crossing = Crossing(bench)
    cosine_LCC: list[Floats] = []
    points: list[list[LayerPoint]] = [[] for _ in bench.cells]
    for place in range(len(bench.layers)) if bench.cells else ():
        acts = [cell.at(bench.reader, place) for cell in bench.cells]
        d = [differences(one)[:, 0] for one in acts]
        for i, (cell, d_QD) in enumerate(zip(bench.cells, d, strict=True)):
            points[i].append(point(bench, cell, place, d_QD))
        crossing.add(place, acts)
        means_CD = np.stack([d_QD.mean(0) for d_QD in d])
        cosine_LCC.append(normalised(means_CD @ means_CD.T))
    found: Found = {"summaries": summaries(bench, points)}
    if bench.cells:
        found["aucs"] = crossing.records()
        found["profiles"] = crossing.profiles()
    if len(bench.cells) > 1:
        found["cosines"] = cosines(bench, cosine_LCC)
    return found, cosine_LCC[bench.place] if bench.cells else np.zeros((0, 0))


def _read(run: Run) -> list[Texts]:
    """What was read of the cells of each recipe."""
    by_recipe: dict[tuple[str, str, float, int], Texts] = {}
    for unit in run.plan.get("direct", []):
        if run.store.is_done("direct", unit.key):
            rows = run.store.read("direct", [unit.key], ReadText)
            states = States(run.store.states_path(unit.key), len(rows))
            recipe = (unit.cell.model, unit.cell.variant, unit.cell.dose, unit.cell.seed)
            by_recipe.setdefault(recipe, []).append((unit.cell, states, rows))
    return list(by_recipe.values())


def _scores(run: Run) -> Scores:
    found: dict[str, tuple[float | None, float | None]] = {}
    for row in run.judgments():
        alignment, coherence = found.get(row.completion, (None, None))
        found[row.completion] = (row.score, coherence) if row.aspect == "alignment" else (alignment, row.score)
    return found


def _write(run: Run, directions: Sequence[Direction]) -> str:
    """Put directions of one origin into the run folder; returns where."""
    origin = directions[0].origin
    slug = "-".join((origin.cell.replace("/", "-"), origin.source, origin.method, origin.reader))
    path = run.store.direction_path(f"{slug}-{content_hash([run.data_key, origin.model_dump()], length=8)}")
    run.store.write_bytes(path, content(directions))
    return run.store.relative(path)
