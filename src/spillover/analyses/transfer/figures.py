"""Figures of the matrix: a heat map of rates, and one with the benign twin's rates subtracted."""

from __future__ import annotations

from collections.abc import Iterator

from spillover.records.transfer import Contrast, TransferCell
from spillover.report.charts import HeatmapCell, Shade, heatmap
from spillover.report.html import figure_html
from spillover.report.matrix_grid import GENERAL, Grid, asked_name, general, scaled, square, star
from spillover.text import interval, number, p_value

FEWEST = 20.0  # percent: a map of small rates must not look like one of large ones


def of_grid(grid: Grid, confidence: float, full: bool) -> Iterator[str]:
    """The figures of one grid, ready for the page; without `full` only what the benign twin leaves of it."""
    axes = ("trained on", "asked about")
    above = list(_above(grid, confidence))
    known = any(s.value is not None for s in above)
    if full or not known:
        rates = list(_rates(grid, confidence))
        title = f"Misaligned %, {grid.name}: training domain by evaluation domain"
        yield _caption("Misaligned completions, percent")
        yield figure_html(heatmap(title, rates, axes, _shade(rates, ("", "misaligned"))))
    if known:
        title = f"Points above the benign twin, {grid.name}: training domain by evaluation domain"
        yield _caption("Misaligned completions minus those of the benign twin, points")
        yield figure_html(heatmap(title, above, axes, _shade(above, ("below the benign twin", "above it"))))


def _caption(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _rates(grid: Grid, confidence: float) -> Iterator[HeatmapCell]:
    for label, squares in (*grid.rows, *grid.below):
        for name in grid.asked:
            c = squares.get(name)
            mark = star(c.above_row if c else None, confidence)
            value = scaled(c.rate) if c else None
            yield HeatmapCell(label, asked_name(name), value, square(c, subtracted=False), _said(label, name, c), mark)
        rate = scaled(general(squares))
        yield HeatmapCell(label, GENERAL, rate, number(rate, 0), f"{label}, {GENERAL}: {number(rate)} %")


def _above(grid: Grid, confidence: float) -> Iterator[HeatmapCell]:
    for label, squares in grid.rows:
        for name in grid.asked:
            c = squares.get(name)
            above = c.above_control if c else None
            said = f"{label} about {asked_name(name)}: "
            said += _points(above, "above the benign twin") if above else "not measured"
            value = scaled(above.value) if above else None
            yield HeatmapCell(label, asked_name(name), value, square(c, subtracted=True), said, star(above, confidence))


def _said(label: str, name: str, c: TransferCell | None) -> str:
    if c is None:
        return f"{label} about {asked_name(name)}: not asked"
    rate = f"{interval(c.rate, c.low, c.high, 100)} % of {c.coherent} coherent completions"
    against = f"; {_points(c.above_row, 'from its general rate')}" if c.above_row else ""
    return f"{label} about {asked_name(name)}: {rate}{against}"


def _points(contrast: Contrast, reference: str) -> str:
    points = interval(contrast.value, contrast.low, contrast.high, 100, sign=True)
    return f"{points} points {reference}, p (Holm) {p_value(contrast.p_holm)}"


def _shade(squares: list[HeatmapCell], names: tuple[str, str]) -> Shade:
    return Shade(0.0, max(FEWEST, *(abs(s.value) for s in squares if s.value is not None)), names)
