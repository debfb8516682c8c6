"""The directions in a run folder: their records, and one of them as a value."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.directions.direction import Direction
from spillover.directions.files import load
from spillover.errors import UserError
from spillover.records.base import Record
from spillover.records.directions import (
    DirectionAUC,
    DirectionCosine,
    DirectionGroups,
    DirectionProfile,
    Directions,
    DirectionSummary,
)
from spillover.registry import did_you_mean
from spillover.store.store import Store

KINDS: dict[str, type[Record]] = {
    "summaries": DirectionSummary,
    "aucs": DirectionAUC,
    "profiles": DirectionProfile,
    "cosines": DirectionCosine,
    "groups": DirectionGroups,
}


def shard_name(kind: str) -> str:
    """What a kind of records is called among the rows of the stage rank."""
    return f"direction-{kind}"


def read(store: Store, key: str) -> Directions:
    """Every record; none before they were worked out."""
    found = {name: tuple(store.read("rank", [f"{shard_name(name)}-{key}"], kind)) for name, kind in KINDS.items()}
    return Directions.model_validate(found)


def choose(found: Directions, domain: str, method: str, source: str, reader: str, cell: str | None) -> DirectionSummary:
    """The summary of the one direction that is meant.

    Raises:
        UserError: when there is none, or several.
    """
    if not found.summaries:
        raise UserError(
            "The run has no directions. Add 'directions: {}' to its study file and run it again: what is trained and "
            "sampled is kept."
        )
    rows = _only(found.summaries, "domain", domain, [row.cell.domain for row in found.summaries])
    rows = _only(rows, "source", source, [row.source for row in rows])
    rows = _only(rows, "reader", reader, [row.reader for row in rows])
    if cell is not None:
        rows = _only(rows, "cell", cell, [row.cell.name for row in rows])
    cells = sorted({row.cell.name for row in rows})
    if len(cells) > 1:
        raise UserError(f"{domain} has the cells {', '.join(cells)}. Name one with --cell.")
    (first, *_) = rows
    if first.layer is None:
        raise UserError(
            f"{cells[0]} has no direction from {source} answers: {first.misaligned} misaligned and {first.aligned} "
            f"aligned ones to {first.questions} questions with both. Sample more, or take --source pairs."
        )
    return _only(rows, "method", method, [row.method for row in rows])[0]


def load_at(store: Store, row: DirectionSummary, layer: int | None) -> Direction:
    """The direction itself, at that layer or at the table's."""
    layers = load(store.resolve(row.file))
    wanted = row.layer if layer is None else layer
    if wanted not in layers:
        raise UserError(f"Layer {wanted} was not read, only {', '.join(map(str, layers))}. Change --layer.")
    return layers[wanted]


def _only(rows: Sequence[DirectionSummary], what: str, wanted: str, names: Sequence[str]) -> list[DirectionSummary]:
    """The rows whose name is the wanted one."""
    chosen = [row for row, name in zip(rows, names, strict=True) if name == wanted]
    if not chosen:
        known = sorted(set(names))
        raise UserError(f"There is no direction of {what} {wanted!r}{did_you_mean(wanted, known)}")
    return chosen
