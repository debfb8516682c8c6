"""Sentences on the transfer matrix: significant differences, and families without any."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from spillover.records.transfer import EVERY, OTHERS, TransferCell
from spillover.report.labels import subject
from spillover.report.matrix_grid import Grid, told
from spillover.text import count_range, listing, number, part, percent, several


def sentences(grid: Grid, confidence: float) -> list[str]:
    """The significant differences of one grid, and the families without any."""
    squares = list(grid.cells())
    families = [
        ("off the diagonal", [c for c in squares if not c.in_domain]),
        ("on the diagonal (the training domain)", [c for c in squares if c.in_domain]),
    ]
    references = (("above_row", "the cell's own general rate"), ("above_control", "the benign twin"))
    names = {id(c): f"{label} about {subject(c.asked)}" for label, row in grid.rows for c in row.values()}
    says: list[str] = []
    for what, members in families:
        for field, reference in references:
            of = [c for c in members if c.asked != OTHERS and (found := getattr(c, field)) and found.p is not None]
            if of:
                apart = [c for c in of if told(getattr(c, field), confidence)]
                says.append(_count(apart, len(of), what, reference, names, field))
    for name, words in (("above_row", "their own general rates"), ("above_control", "their benign twins")):
        apart, known = _rows_apart(grid, name, confidence)
        if known:
            named = f": {listing(apart)}" if apart else ""
            says.append(
                f"Asked about all other domains combined, {len(apart)} of {known} rows differ significantly from "
                f"{words}{named}."
            )
    widths = [c.high - c.low for c in squares if c.asked != OTHERS and c.low is not None and c.high is not None]
    coherent = [c.coherent for c in squares if c.asked != OTHERS]
    if widths:
        says.append(
            f"A matrix cell has {count_range(coherent)} coherent completions, and its {number(100 * confidence, 0)} % "
            f"interval is {number(100 * median(widths), 0)} points wide (median): a non-significant difference does "
            "not "
            "show equality."
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
    counts = [sum(told(c.above_row, confidence) for c in members) for members in (own, off)]
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
    return [label for label, contrast in known if told(contrast, confidence)], len(known)


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
