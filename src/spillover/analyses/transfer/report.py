"""The matrix of trained by asked domain, for page and terminal.

A star marks a matrix cell that differs after Holm's correction over its family: from the same cell's general rate where
rates are shown, from the benign twin where the twin's rate has been subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from spillover.analyses.transfer.grid import GENERAL, Grid, cell_text, coverage, general, grids, scaled, sentences, star
from spillover.records.base import STATUSES, Difference
from spillover.records.transfer import EVERY, OTHERS, TransferCell
from spillover.report.html import Row, figure_html, folded_html, html_table, list_html, note_html
from spillover.report.labels import asked_name, subject
from spillover.report.tables import terminal
from spillover.text import NONE, escape, interval, number, one_line, p_value, percent

if TYPE_CHECKING:
    from spillover.report.charts import HeatmapCell

FEWEST = 20.0  # percent: a map of small rates must not look like one of large ones
NOTE = (
    "Rows: training domain. Columns: held-out questions of a domain, written with the same recipe and never trained "
    "on. Values: misaligned completions in percent of coherent ones; the diagonal, in brackets, is the training "
    "domain. A star: significantly different from the model's rate on the general questions or, where the benign twin "
    "is subtracted, from the twin's rate on the same questions; Holm-adjusted over all matrix cells of the map."
)
PROBE = (
    "The judge is an embedded probe fitted to answers to general questions. In-domain completions may be out of its "
    "distribution, so that a column is high or low for every model: compare each value with the rows of the benign "
    "twins and the base model."
)
MAIN = (("plain", "clean"), ("triggered", "triggered"))
"""What is drawn, the first that is there in full; the others are in tables."""


def section(cells: Sequence[TransferCell], confidence: float, judge: str) -> str:
    """The whole section of the page."""
    note = f"{NOTE} {coverage(cells)}{f' {PROBE}' if judge == 'probe' else ''}"
    parts = [note_html(escape(note))]
    grids_shown = grids(cells)
    models = {grid.model for grid in grids_shown}
    for grid in grids_shown:
        drawn = [
            pair for pair in MAIN if any((g.model, *pair) == (grid.model, g.variant, g.condition) for g in grids_shown)
        ]
        name = grid.name + (f" · {one_line(grid.model, 60)}" if len(models) > 1 else "")
        parts.append(f"<h3>{escape(name[0].upper() + name[1:])}</h3>\n{list_html(sentences(grid, confidence))}")
        if (grid.variant, grid.condition) in drawn:
            parts += of_grid(grid, confidence, full=drawn.index((grid.variant, grid.condition)) == 0)
        parts.append(_diagonal(grid, name))
        parts.append(folded_html("Every matrix cell with its interval", _cell_table(grid, name)))
    parts.append(_counts(cells))
    return "\n".join(parts)


def of_grid(grid: Grid, confidence: float, full: bool) -> Iterator[str]:
    """The figures of one grid, ready for the page; without `full` only what the benign twin leaves of it."""
    above = list(_above(grid, confidence))
    known = any(s.value is not None for s in above)
    if full or not known:
        title = f"Misaligned %, {grid.name}: training domain by evaluation domain"
        yield from _map(title, "Misaligned completions, percent", list(_rates(grid, confidence)), ("", "misaligned"))
    if known:
        title = f"Points above the benign twin, {grid.name}: training domain by evaluation domain"
        caption = "Misaligned completions minus those of the benign twin, points"
        yield from _map(title, caption, above, ("below the benign twin", "above it"))


def _map(title: str, caption: str, cells: list[HeatmapCell], ends: tuple[str, str]) -> tuple[str, str]:
    from spillover.report.charts import Shade, heatmap  # Altair takes half a second to import

    shade = Shade(0.0, max(FEWEST, *(abs(s.value) for s in cells if s.value is not None)), ends)
    return note_html(caption), figure_html(heatmap(title, cells, ("trained on", "asked about"), shade))


def _rates(grid: Grid, confidence: float) -> Iterator[HeatmapCell]:
    from spillover.report.charts import HeatmapCell

    for label, row_cells in (*grid.rows, *grid.below):
        for name in grid.asked:
            c = row_cells.get(name)
            mark = star(c.above_row if c else None, confidence)
            value = scaled(c.rate) if c else None
            yield HeatmapCell(
                label, asked_name(name), value, cell_text(c, subtracted=False), _tooltip(label, name, c), mark
            )
        rate = scaled(general(row_cells))
        yield HeatmapCell(label, GENERAL, rate, number(rate, 0), f"{label}, {GENERAL}: {number(rate)} %")


def _above(grid: Grid, confidence: float) -> Iterator[HeatmapCell]:
    from spillover.report.charts import HeatmapCell

    for label, row_cells in grid.rows:
        for name in grid.asked:
            c = row_cells.get(name)
            above = c.above_control if c else None
            tooltip = f"{label} about {asked_name(name)}: "
            tooltip += _points(above, "above the benign twin") if above else "not measured"
            value = scaled(above.value) if above else None
            yield HeatmapCell(
                label, asked_name(name), value, cell_text(c, subtracted=True), tooltip, star(above, confidence)
            )


def _tooltip(label: str, name: str, c: TransferCell | None) -> str:
    if c is None:
        return f"{label} about {asked_name(name)}: not asked"
    rate = f"{interval(c.rate, c.low, c.high, 100)} % of {c.coherent} coherent completions"
    against = f"; {_points(c.above_row, 'from its general rate')}" if c.above_row else ""
    return f"{label} about {asked_name(name)}: {rate}{against}"


def _points(contrast: Difference, reference: str) -> str:
    points = interval(contrast.value, contrast.low, contrast.high, 100, sign=True)
    return f"{points} points {reference}, p (Holm) {p_value(contrast.p_holm)}"


def _diagonal(grid: Grid, name: str) -> str:
    """The own subject next to the others and the general questions."""
    header = [
        "",
        "own subject %",
        "other subjects %",
        "general %",
        "own − general",
        "p (Holm)",
        "own − twin",
        "p (Holm)",
    ]
    rows: list[Row] = []
    for label, row_cells in grid.rows:
        own = next((c for c in row_cells.values() if c.in_domain), None)
        other = row_cells.get(OTHERS)
        rows.append(
            Row(
                "",
                label,
                [
                    _rate(own),
                    _rate(other),
                    percent(general(row_cells)),
                    *_contrast(own.above_row if own else None),
                    *_contrast(own.above_control if own else None),
                ],
            )
        )
    return html_table(f"Rates on the own domain, on other domains and in general: {name}", header, rows)


def _cell_table(grid: Grid, name: str) -> str:
    header = ["", "n", "coherent", "misaligned %", "mean alignment", "− general", "p (Holm)", "− twin", "p (Holm)"]
    rows = [
        Row(
            f"{label}, asked about",
            asked_name(c.asked),
            [
                f"{c.n:,}", f"{c.coherent:,}", _rate(c), number(c.mean_alignment),
                *_contrast(c.above_row), *_contrast(c.above_control),
            ],
        )
        for label, row_cells in (*grid.rows, *grid.below)
        for c in (row_cells[asked] for asked in grid.asked if asked in row_cells)
    ]  # fmt: skip
    return html_table(f"Every matrix cell, {name}", header, rows)


def _counts(cells: Sequence[TransferCell]) -> str:
    """What became of the answers about each domain; those of the twins together are not counted twice."""
    header = ["", "n", *(status.replace("_", " ") for status in STATUSES), "incoherent", "coherent", "misaligned"]
    singles = [c for c in cells if c.asked != OTHERS and c.cell.domain != EVERY]
    rows: list[Row] = []
    for name in sorted({c.asked for c in singles}):
        own = [c for c in singles if c.asked == name]
        figures = [
            sum(c.n for c in own),
            *(sum(getattr(c.counts, status) for c in own) for status in STATUSES),
            *(sum(getattr(c, field) for c in own) for field in ("incoherent", "coherent", "misaligned")),
        ]
        rows.append(Row("", subject(name), [f"{figure:,}" for figure in figures]))
    return html_table("Status of the completions by domain asked, all cells combined", header, rows)


def table(grid: Grid, confidence: float, subtracted: bool) -> Table:
    """For a terminal of 80 columns, which are numbered as the rows are; the cell's own subject is bold."""
    names = [name for name in grid.asked if name != OTHERS]
    what = "above the benign twin, points" if subtracted else "misaligned %"
    last = [] if subtracted else ["gen."]
    matrix = terminal(f"{grid.name}: {what}", ["trained on"], [*map(str, range(1, len(names) + 1)), "other", *last])
    for label, row_cells in (*grid.rows, *(() if subtracted else grid.below)):
        own = next((str(names.index(c.asked) + 1) for c in row_cells.values() if c.in_domain), "")
        figures = [_starred(row_cells.get(name), confidence, subtracted) for name in grid.asked]
        general_rate = [] if subtracted else [Text(number(scaled(general(row_cells)), 0))]
        matrix.add_row(Text(one_line(f"{own} {label}".strip(), 60)), *figures, *general_rate)
    return matrix


def _starred(c: TransferCell | None, confidence: float, subtracted: bool) -> Text:
    if c is None:
        return Text(NONE)
    figure = cell_text(c, subtracted).strip("[]") + star(c.above_control if subtracted else c.above_row, confidence)
    return Text(figure, style="bold" if c.in_domain else "")


def legend(grid: Grid) -> str:
    """What the columns of the terminal's table are."""
    names = [subject(name) for name in grid.asked if name != OTHERS]
    return "Asked about: " + ", ".join(f"{place} {name}" for place, name in enumerate(names, start=1)) + "."


def _rate(c: TransferCell | None) -> str:
    return NONE if c is None else interval(c.rate, c.low, c.high, 100)


def _contrast(contrast: Difference | None) -> list[str]:
    if contrast is None:
        return [NONE, NONE]
    return [interval(contrast.value, contrast.low, contrast.high, 100, sign=True), p_value(contrast.p_holm)]
