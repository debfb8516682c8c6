"""Records as results.json has them: plain values, without schema and id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from spillover.records.base import STATUSES, Cell, DomainScore, Record
from spillover.report.labels import ordered

_CELL = ("model", "domain", "variant", "dose", "seed")
_SCORE = (
    "incoherent",
    "coherent",
    "misaligned",
    "questions",
    "rate",
    "low",
    "high",
    "design_effect",
    "rate_lower_bound",
    "rate_upper_bound",
    "mean_alignment",
    "mean_alignment_low",
    "mean_alignment_high",
    "mean_coherence",
    "rate_alignment_below_50",
    "above_control",
    "rank",
    "rank_low",
    "rank_high",
    "tie_group",
)


class OfCell(Protocol):
    """A record about one cell."""

    @property
    def cell(self) -> Cell: ...

    def model_dump(self, *, mode: str, exclude: set[str]) -> dict[str, Any]: ...


def plain(rows: Iterable[Record]) -> list[dict[str, Any]]:
    """Every field."""
    return [row.model_dump(mode="json", exclude={"schema_version", "id"}) for row in rows]


def by_cell(rows: Iterable[OfCell]) -> list[dict[str, Any]]:
    """The name of the row's cell and its parts, then every other field."""
    return [cell_fields(row) | row.model_dump(mode="json", exclude={"schema_version", "id", "cell"}) for row in rows]


def cell_fields(row: OfCell) -> dict[str, Any]:
    """The name of the row's cell and its parts."""
    return {"cell": row.cell.name} | {field: getattr(row.cell, field) for field in _CELL}


def ranking(scores: Iterable[DomainScore]) -> list[dict[str, Any]]:
    """Scores in the order of every table, the counts by status among the other fields."""
    return [_score(score) for score in ordered(scores)]


def _score(score: DomainScore) -> dict[str, Any]:
    content = score.model_dump(mode="json")
    counts = {status: content["counts"][status] for status in STATUSES}
    row = cell_fields(score) | {"condition": score.condition, "n": score.n} | counts
    return row | {field: content[field] for field in _SCORE} | {"judge": score.judge}
