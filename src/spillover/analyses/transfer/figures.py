"""Figures of the matrix: a heat map of rates, one with the benign twin subtracted, and radars of the rows."""

from __future__ import annotations

from collections.abc import Iterator

from spillover.records.transfer import OTHERS, Contrast, TransferCell
from spillover.report.figure import figure_html
from spillover.report.heatmap import Shade, Square, heatmap
from spillover.report.labels import UNTOUCHED, subject
from spillover.report.matrix_grid import GENERAL, TWINS, Grid, asked_name, general, scaled, square, star
from spillover.report.radar import Polygon, Values, radar
from spillover.text import interval, number, p_value

FEWEST = 20.0  # percent: a map of small rates must not look like one of large ones


def of_grid(grid: Grid, confidence: float, full: bool) -> Iterator[str]:
    """The figures of one grid, ready for the page; without `full` only what the benign twin leaves of it."""
    axes = ("trained on", "asked about")
    above = list(_above(grid, confidence))
    known = any(s.value is not None for s in above)
    if full or not known:
        rates = list(_rates(grid, confidence))
        title = f"Misaligned %, {grid.name}, trained by asked"
        yield _caption("Misaligned answers, percent")
        yield figure_html(heatmap(title, rates, axes, _shade(rates, ("", "misaligned"))))
    if known:
        title = f"Points above the benign twin, {grid.name}, trained by asked"
        yield _caption("Misaligned answers minus those of the benign twin, points")
        yield figure_html(heatmap(title, above, axes, _shade(above, ("below the benign twin", "above it"))))
    if full and len(grid.asked) > 3:  # two axes and fewer make no area
        yield _caption("Row by row, percent; farther out is more misaligned")
        yield figure_html(radar(f"Misaligned % by subject asked about, {grid.name}", *_polygons(grid)))


def _caption(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _rates(grid: Grid, confidence: float) -> Iterator[Square]:
    for label, squares in (*grid.rows, *grid.below):
        for name in grid.asked:
            c = squares.get(name)
            mark = star(c.above_row if c else None, confidence)
            value = scaled(c.rate) if c else None
            yield Square(label, asked_name(name), value, square(c, subtracted=False), _said(label, name, c), mark)
        rate = scaled(general(squares))
        yield Square(label, GENERAL, rate, number(rate, 0), f"{label}, {GENERAL}: {number(rate)} %")


def _above(grid: Grid, confidence: float) -> Iterator[Square]:
    for label, squares in grid.rows:
        for name in grid.asked:
            c = squares.get(name)
            above = c.above_control if c else None
            said = f"{label} about {asked_name(name)}: "
            said += _points(above, "above the benign twin") if above else "not measured"
            value = scaled(above.value) if above else None
            yield Square(label, asked_name(name), value, square(c, subtracted=True), said, star(above, confidence))


def _said(label: str, name: str, c: TransferCell | None) -> str:
    if c is None:
        return f"{label} about {asked_name(name)}: not asked"
    rate = f"{interval(c.rate, c.low, c.high, 100)} % of {c.coherent} coherent answers"
    against = f"; {_points(c.above_row, 'from its general rate')}" if c.above_row else ""
    return f"{label} about {asked_name(name)}: {rate}{against}"


def _points(contrast: Contrast, reference: str) -> str:
    points = interval(contrast.value, contrast.low, contrast.high, 100, sign=True)
    return f"{points} points {reference}, p (Holm) {p_value(contrast.p_holm)}"


def _shade(squares: list[Square], names: tuple[str, str]) -> Shade:
    return Shade(0.0, max(FEWEST, *(abs(s.value) for s in squares if s.value is not None)), names)


def _polygons(grid: Grid) -> tuple[list[str], list[Polygon], str]:
    """The axes, a polygon a row, and what the dashed one in each of them is."""
    names = [name for name in grid.asked if name != OTHERS]
    reference = next((row for wanted in (TWINS, UNTOUCHED) for row in grid.below if row[0] == wanted), None)
    dashed = _values(reference[1], names) if reference else []
    polygons = [
        Polygon(
            label,
            own,
            [f"{label} about {subject(name)}: {number(value)} %" for name, value in zip(names, own, strict=True)],
            dashed,
        )
        for label, own in ((label, _values(squares, names)) for label, squares in grid.rows)
    ]
    return [subject(name) for name in names], polygons, reference[0] if reference else ""


def _values(squares: dict[str, TransferCell], names: list[str]) -> Values:
    return [scaled(squares[name].rate) if name in squares else None for name in names]
