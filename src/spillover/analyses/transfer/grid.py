"""Transfer cells as grids, one row per model and one column per evaluation domain, and what a grid shows in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from spillover.records.base import Cell, Condition, Difference, Variant
from spillover.records.transfer import EVERY, OTHERS, TransferCell
from spillover.report.labels import BASE_MODEL, Labels, series, series_place, subject
from spillover.text import NONE, count_range, listing, number, part, percent, several

TWINS = "benign twins, together"
GENERAL = "general questions"
STAR = "*"


@dataclass(frozen=True)
class Grid:
    """Cells of one model and series in the order of their labels, and under them what they may be compared with."""

    model: str
    variant: Variant
    condition: Condition
    asked: list[str]  # domains, and OTHERS last
    rows: list[tuple[str, dict[str, TransferCell]]]  # label, matrix cells by asked domain
    below: list[tuple[str, dict[str, TransferCell]]]

    @property
    def name(self) -> str:
        return series(self.variant, self.condition)

    def cells(self) -> Iterator[TransferCell]:
        """All matrix cells of the fine-tunes themselves."""
        return (cell for _, row_cells in self.rows for cell in row_cells.values())


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
            (labels.of(cell), row_cells)
            for (cell, under), row_cells in by_row.items()
            if (cell.model, cell.variant, under) == (model, variant, condition) and cell.domain != EVERY
        ]
        twins = Cell(model=model, domain=EVERY, variant="control", dose=0.0)
        base = Cell(model=model, domain="none", variant="base", dose=0.0)
        below = [
            (name, row_cells)
            for name, cell in ((TWINS, twins), (BASE_MODEL, base))
            if (row_cells := by_row.get((cell, condition)) or by_row.get((cell, "clean")))
        ]
        found.append(Grid(model, variant, condition, asked, sorted(mine, key=lambda row: row[0]), below))
    return found


def general(row_cells: dict[str, TransferCell]) -> float | None:
    """The rate on the study's general questions, which every matrix cell of a row is compared with."""
    for cell in row_cells.values():
        against = cell.above_row
        if against is not None and against.value is not None and cell.rate is not None:
            return cell.rate - against.value
    return None


def is_significant(contrast: Difference | None, confidence: float) -> bool:
    """Whether the difference is there after Holm's correction."""
    return contrast is not None and contrast.p_holm is not None and contrast.p_holm <= 1 - confidence


def star(contrast: Difference | None, confidence: float) -> str:
    """The mark of a significant matrix cell."""
    return STAR if is_significant(contrast, confidence) else ""


def cell_text(c: TransferCell | None, subtracted: bool) -> str:
    """A figure in whole percent or points; the diagonal in brackets."""
    if c is None:
        return NONE
    above = c.above_control.value if c.above_control else None
    text = number(scaled(above if subtracted else c.rate), 0)
    return f"[{text}]" if c.in_domain else text


def scaled(share: float | None) -> float | None:
    """A share in percent."""
    return None if share is None else 100 * share


def sentences(grid: Grid, confidence: float) -> list[str]:
    """The significant differences of one grid, and the families without any."""
    cells = list(grid.cells())
    families = [
        ("off the diagonal", [c for c in cells if not c.in_domain]),
        ("on the diagonal (the training domain)", [c for c in cells if c.in_domain]),
    ]
    references = (("above_row", "the cell's own general rate"), ("above_control", "the benign twin"))
    names = {id(c): f"{label} about {subject(c.asked)}" for label, row in grid.rows for c in row.values()}
    says: list[str] = []
    for what, members in families:
        for field, reference in references:
            of = [c for c in members if c.asked != OTHERS and (found := getattr(c, field)) and found.p is not None]
            if of:
                apart = [c for c in of if is_significant(getattr(c, field), confidence)]
                says.append(_count(apart, len(of), what, reference, names, field))
    for name, words in (("above_row", "their own general rates"), ("above_control", "their benign twins")):
        apart, known = _rows_apart(grid, name, confidence)
        if known:
            named = f": {listing(apart)}" if apart else ""
            says.append(
                f"Asked about all other domains combined, {len(apart)} of {known} rows differ significantly from "
                f"{words}{named}."
            )
    widths = [c.high - c.low for c in cells if c.asked != OTHERS and c.low is not None and c.high is not None]
    coherent = [c.coherent for c in cells if c.asked != OTHERS]
    if widths:
        says.append(
            f"A matrix cell has {count_range(coherent)} coherent completions, and its {number(100 * confidence, 0)} % "
            f"interval is {number(100 * median(widths), 0)} points wide (median): a non-significant difference does "
            "not show equality."
        )
    return says


def headline(grid: Grid, confidence: float) -> str | None:
    """The grid in one sentence; None where nothing can be compared."""
    apart, known = _rows_apart(grid, "above_row", confidence)
    own, off = (
        [c for c in grid.cells() if c.asked != OTHERS and c.in_domain == diagonal] for diagonal in (True, False)
    )
    if not known or not off:
        return None
    counts = [sum(is_significant(c.above_row, confidence) for c in members) for members in (own, off)]
    return (
        f"Asked about domains that they were not trained on ({grid.name}), {len(apart)} of {known} models differ "
        f"significantly from their rate on general questions, as do {counts[1]} of "
        f"{several(len(off), 'single pair')} of "
        f"model and domain. Asked about their training domain, {counts[0]} of {len(own)} do."
    )


def _rows_apart(grid: Grid, name: str, confidence: float) -> tuple[list[str], int]:
    """Labels of the rows whose other subjects together can be distinguished, and how many rows were compared."""
    rows = [(label, getattr(row[OTHERS], name)) for label, row in grid.rows if OTHERS in row]
    known = [(label, contrast) for label, contrast in rows if contrast is not None and contrast.p is not None]
    return [label for label, contrast in known if is_significant(contrast, confidence)], len(known)


def _count(apart: Sequence[TransferCell], of: int, what: str, reference: str, names: dict[int, str], field: str) -> str:
    verb = "differs" if len(apart) == 1 else "differ"
    head = f"Of {several(of, 'matrix cell')} {what}, {len(apart)} {verb} significantly from {reference}"
    if not apart:
        return f"{head} (Holm)."

    def size(c: TransferCell) -> float:
        return getattr(c, field).value or 0.0

    first = sorted(apart, key=lambda c: -abs(size(c)))
    named = [f"{names[id(c)]} ({number(100 * size(c), 0, sign=True)} points)" for c in first]
    return f"{head} (Holm): {listing(named)}."


def coverage(cells: Sequence[TransferCell]) -> str:
    """How much of what was said the judge could score, in words."""
    singles = [c for c in cells if c.asked != OTHERS and c.cell.domain != EVERY]
    n, scored = sum(c.n for c in singles), sum(c.counts.scored for c in singles)
    by_asked = {name: [c for c in singles if c.asked == name] for name in sorted({c.asked for c in singles})}
    shares = {name: sum(c.counts.scored for c in own) / max(sum(c.n for c in own), 1) for name, own in by_asked.items()}
    worst = min(shares, key=lambda name: shares[name])
    least = f"; the fewest about {subject(worst)}, {percent(shares[worst])} %" if scored < n else ""
    return f"The judge scored {part(scored, n)} of {several(n, 'completion')}{least}."
