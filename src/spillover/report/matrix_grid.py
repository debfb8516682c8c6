"""Transfer cells as grids: one row per model, one column per evaluation domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spillover.records.base import Cell, Condition, Variant
from spillover.records.transfer import EVERY, OTHERS, Contrast, TransferCell
from spillover.report.labels import BASE_MODEL, Labels, series, series_place, subject
from spillover.text import NONE, number

TWINS = "benign twins, together"
OTHER = "other subjects"
GENERAL = "general questions"
STAR = "*"


@dataclass(frozen=True)
class Grid:
    """Cells of one model and series in the order of their labels, and under them what they may be compared with."""

    model: str
    variant: Variant
    condition: Condition
    asked: list[str]  # domains, and OTHERS last
    rows: list[tuple[str, dict[str, TransferCell]]]  # label, squares by asked domain
    below: list[tuple[str, dict[str, TransferCell]]]

    @property
    def name(self) -> str:
        return series(self.variant, self.condition)

    def cells(self) -> Iterator[TransferCell]:
        """All matrix cells of the fine-tunes themselves."""
        return (square for _, squares in self.rows for square in squares.values())


def grids(cells: Sequence[TransferCell]) -> list[Grid]:
    """One for each model, variant and condition, in the order in which series are drawn."""
    labels = Labels((c.cell for c in cells if c.cell.domain != EVERY), show_model=False)
    asked = [*sorted({c.asked for c in cells} - {OTHERS}), OTHERS]
    by_row: dict[tuple[Cell, Condition], dict[str, TransferCell]] = {}
    for c in cells:
        by_row.setdefault((c.cell, c.condition), {})[c.asked] = c
    found: list[Grid] = []
    kinds: set[tuple[str, Variant, Condition]] = {
        (c.model, c.variant, condition) for c, condition in by_row if c.variant != "base" and c.domain != EVERY
    }
    for model, variant, condition in sorted(kinds, key=lambda kind: (kind[0], series_place(kind[1], kind[2]))):
        mine = [
            (labels.of(cell), squares)
            for (cell, under), squares in by_row.items()
            if (cell.model, cell.variant, under) == (model, variant, condition) and cell.domain != EVERY
        ]
        twins = Cell(model=model, domain=EVERY, variant="control", dose=0.0)
        base = Cell(model=model, domain="none", variant="base", dose=0.0)
        below = [
            (name, squares)
            for name, cell in ((TWINS, twins), (BASE_MODEL, base))
            if (squares := by_row.get((cell, condition)) or by_row.get((cell, "clean")))
        ]
        found.append(Grid(model, variant, condition, asked, sorted(mine, key=lambda row: row[0]), below))
    return found


def general(squares: dict[str, TransferCell]) -> float | None:
    """The rate on the study's general questions, which every matrix cell of a row is compared with."""
    for square in squares.values():
        against = square.above_row
        if against is not None and against.value is not None and square.rate is not None:
            return square.rate - against.value
    return None


def told(contrast: Contrast | None, confidence: float) -> bool:
    """Whether the difference is there after Holm's correction."""
    return contrast is not None and contrast.p_holm is not None and contrast.p_holm <= 1 - confidence


def star(contrast: Contrast | None, confidence: float) -> str:
    """The mark of a significant matrix cell."""
    return STAR if told(contrast, confidence) else ""


def square(c: TransferCell | None, subtracted: bool) -> str:
    """A figure in whole percent or points; the diagonal in brackets."""
    if c is None:
        return NONE
    above = c.above_control.value if c.above_control else None
    text = number(scaled(above if subtracted else c.rate), 0)
    return f"[{text}]" if c.in_domain else text


def asked_name(asked: str) -> str:
    """A column's heading."""
    return OTHER if asked == OTHERS else subject(asked)


def scaled(share: float | None) -> float | None:
    """A share in percent."""
    return None if share is None else 100 * share
