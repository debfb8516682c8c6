"""Tables of directions: read the states of every recipe's cells, label them, make every table, keep the records.

Computed from saved states and judgments; no model is loaded. Cells of one model, variant,
dose and seed, which differ by domain, are compared with one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from spillover.data.domains import open_domain
from spillover.directions.direction import Direction
from spillover.directions.files import load, to_bytes
from spillover.directions.labelled import Scores, States, TableInputs, TableSettings, label_cells
from spillover.directions.methods import differences
from spillover.directions.pairs import CrossDomainAUCs, cosines, groups
from spillover.directions.similarity import normalised
from spillover.directions.summaries import point, summaries
from spillover.errors import UserError
from spillover.records.base import Cell, Record, content_hash
from spillover.records.directions import (
    DirectionAUC,
    DirectionCosine,
    DirectionGroups,
    DirectionProfile,
    Directions,
    DirectionSummary,
    Grouped,
    LayerPoint,
    Reader,
    ReadText,
    Source,
)
from spillover.registry import did_you_mean
from spillover.stats import Floats
from spillover.store.store import Store
from spillover.tables.run_folder import RunFolder

KINDS: dict[str, type[Record]] = {
    "summaries": DirectionSummary,
    "aucs": DirectionAUC,
    "profiles": DirectionProfile,
    "cosines": DirectionCosine,
    "groups": DirectionGroups,
}
Texts = list[tuple[Cell, States, list[ReadText]]]
Found = dict[str, list[Any]]
"""Records by kind, as in KINDS."""


@threadpool_limits.wrap(limits=1)  # thousands of small matrices: threads would only wait for one another
def keep(folder: RunFolder) -> None:
    """Make the tables of every recipe and keep them; nothing where the study did not ask for directions."""
    config = folder.config
    if config is None or config.directions is None:
        return
    judge = folder.judge()
    setting = TableSettings(
        config=config.directions,
        confidence=folder.rank_config.confidence,
        seed=folder.manifest.seed,
        study=folder.manifest.study_hash,
        judge=judge.identity if judge else "",
        write=lambda directions: _write(folder, directions),
    )

    def group_of(cell: Cell, grouped: Grouped) -> str:
        return getattr(open_domain(cell.domain, config.data), grouped)

    kept: Found = {kind: [] for kind in KINDS}
    scores = _scores(folder)
    for texts in _read(folder):
        for source in get_args(Source):
            labelled = label_cells(source, texts, scores, folder.rank_config, config.directions.aligned_above)
            for reader in get_args(Reader):
                inputs = TableInputs(labelled, reader, setting)
                found, cosine_CC = _tables(inputs)
                found["groups"] = groups(inputs, cosine_CC, group_of)
                for kind, rows in found.items():
                    kept[kind] += rows
    for kind, rows in kept.items():
        folder.keep(_name(folder, kind), KINDS[kind], rows)


def _tables(inputs: TableInputs) -> tuple[Found, Floats]:
    """Layer by layer, so that no more than one layer's states are in memory; and the cosines of the table's layer."""
    crossing = CrossDomainAUCs(inputs)
    cosine_LCC: list[Floats] = []
    points: list[list[LayerPoint]] = [[] for _ in inputs.cells]
    for layer_index in range(len(inputs.layers)) if inputs.cells else ():
        acts = [cell.at(inputs.reader, layer_index) for cell in inputs.cells]
        d = [differences(one)[:, 0] for one in acts]
        for i, (cell, d_QD) in enumerate(zip(inputs.cells, d, strict=True)):
            points[i].append(point(inputs, cell, layer_index, d_QD))
        crossing.add(layer_index, acts)
        means_CD = np.stack([d_QD.mean(0) for d_QD in d])
        cosine_LCC.append(normalised(means_CD @ means_CD.T))
    found: Found = {"summaries": summaries(inputs, points)}
    if inputs.cells:
        found["aucs"] = crossing.records()
        found["profiles"] = crossing.profiles()
    if len(inputs.cells) > 1:
        found["cosines"] = cosines(inputs, cosine_LCC)
    return found, cosine_LCC[inputs.table_index] if inputs.cells else np.zeros((0, 0))


def _read(folder: RunFolder) -> list[Texts]:
    """What was read of the cells of each recipe."""
    by_recipe: dict[tuple[str, str, float, int], Texts] = {}
    for unit in folder.plan.get("direct", []):
        if folder.store.is_done("direct", unit.key):
            rows = folder.store.read("direct", [unit.key], ReadText)
            states = States(folder.store.states_path(unit.key), len(rows))
            recipe = (unit.cell.model, unit.cell.variant, unit.cell.dose, unit.cell.seed)
            by_recipe.setdefault(recipe, []).append((unit.cell, states, rows))
    return list(by_recipe.values())


def _scores(folder: RunFolder) -> Scores:
    found: dict[str, tuple[float | None, float | None]] = {}
    for row in folder.judgments():
        alignment, coherence = found.get(row.completion, (None, None))
        found[row.completion] = (row.score, coherence) if row.aspect == "alignment" else (alignment, row.score)
    return found


def _write(folder: RunFolder, directions: Sequence[Direction]) -> str:
    """Put directions of one origin into the run folder; returns where."""
    origin = directions[0].origin
    slug = "-".join((origin.cell.replace("/", "-"), origin.source, origin.method, origin.reader))
    path = folder.store.direction_path(f"{slug}-{content_hash([folder.data_key, origin.model_dump()], length=8)}")
    folder.store.write_bytes(path, to_bytes(directions))
    return folder.store.relative(path)


def kept(folder: RunFolder) -> Directions:
    """Every record; none before they were computed."""
    found = {kind: folder.kept(_name(folder, kind), record) for kind, record in KINDS.items()}
    return Directions.model_validate(found)


def _reader(kind: str) -> Callable[[RunFolder, str | None], Iterable[Record]]:
    return lambda folder, judge: folder.kept(_name(folder, kind), KINDS[kind]) if judge is None else ()


READERS = {record: _reader(kind) for kind, record in KINDS.items()}
"""For the table of analyses: the study's own judge labelled the answers."""


def _name(folder: RunFolder, kind: str) -> str:
    return f"direction-{kind}-{folder.data_key}"


def select_summary(
    found: Directions, domain: str, method: str, source: str, reader: str, cell: str | None
) -> DirectionSummary:
    """The summary of the one direction that is meant.

    Raises:
        UserError: when there is none, or several.
    """
    if not found.summaries:
        raise UserError(
            "The run has no directions. Add 'directions: {}' to its study file and run it again; finished training and "
            "sampled is kept."
        )
    rows = _matching(found.summaries, "domain", domain, [row.cell.domain for row in found.summaries])
    rows = _matching(rows, "source", source, [row.source for row in rows])
    rows = _matching(rows, "reader", reader, [row.reader for row in rows])
    if cell is not None:
        rows = _matching(rows, "cell", cell, [row.cell.name for row in rows])
    cells = sorted({row.cell.name for row in rows})
    if len(cells) > 1:
        raise UserError(f"{domain} has the cells {', '.join(cells)}. Select one with --cell.")
    (first, *_) = rows
    if first.layer is None:
        raise UserError(
            f"{cells[0]} has no direction from {source} answers: {first.misaligned} misaligned and {first.aligned} "
            f"aligned ones to {first.questions} questions with both. Sample more, or take --source pairs."
        )
    return _matching(rows, "method", method, [row.method for row in rows])[0]


def load_direction(store: Store, row: DirectionSummary, layer: int | None) -> Direction:
    """The direction itself, at that layer or at the table's."""
    layers = load(store.resolve(row.file))
    wanted = row.layer if layer is None else layer
    if wanted not in layers:
        raise UserError(f"Layer {wanted} was not saved, only {', '.join(map(str, layers))}. Change --layer.")
    return layers[wanted]


def _matching(rows: Sequence[DirectionSummary], what: str, wanted: str, names: Sequence[str]) -> list[DirectionSummary]:
    """The rows whose name is the wanted one."""
    chosen = [row for row, name in zip(rows, names, strict=True) if name == wanted]
    if not chosen:
        known = sorted(set(names))
        raise UserError(f"No direction with {what} {wanted!r}{did_you_mean(wanted, known)}")
    return chosen
