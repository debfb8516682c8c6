"""The matrix of trained by asked domain, for page and terminal.

A star marks a matrix cell that differs after Holm's correction over its family: from the same cell's general rate where
rates are shown, from the benign twin where the twin's rate has been subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from spillover.analyses.transfer.sentences import coverage, sentences
from spillover.records.base import STATUSES
from spillover.records.transfer import EVERY, OTHERS, Contrast, TransferCell
from spillover.report.html import Row, html_table
from spillover.report.labels import subject
from spillover.report.matrix_grid import Grid, asked_name, general, grids, scaled, square, star
from spillover.report.tables import terminal
from spillover.text import NONE, escape, interval, number, one_line, p_value, percent

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
    from spillover.analyses.transfer import figures  # Altair takes half a second to import

    note = f"{NOTE} {coverage(cells)}{f' {PROBE}' if judge == 'probe' else ''}"
    parts = [f'<p class="note">{escape(note)}</p>']
    found = grids(cells)
    models = {grid.model for grid in found}
    for grid in found:
        drawn = [pair for pair in MAIN if any((g.model, *pair) == (grid.model, g.variant, g.condition) for g in found)]
        name = grid.name + (f" · {one_line(grid.model, 60)}" if len(models) > 1 else "")
        says = "".join(f"<li>{escape(said)}</li>" for said in sentences(grid, confidence))
        parts.append(f"<h3>{escape(name[0].upper() + name[1:])}</h3>\n<ul>{says}</ul>")
        if (grid.variant, grid.condition) in drawn:
            parts += figures.of_grid(grid, confidence, full=drawn.index((grid.variant, grid.condition)) == 0)
        parts.append(_diagonal(grid, name))
        parts.append(f"<details><summary>Every matrix cell with its interval</summary>{_squares(grid, name)}</details>")
    parts.append(_counts(cells))
    return "\n".join(parts)


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
    for label, squares in grid.rows:
        own = next((c for c in squares.values() if c.in_domain), None)
        other = squares.get(OTHERS)
        rows.append(
            Row(
                "",
                label,
                [
                    _rate(own),
                    _rate(other),
                    percent(general(squares)),
                    *_contrast(own.above_row if own else None),
                    *_contrast(own.above_control if own else None),
                ],
            )
        )
    return html_table(f"Rates on the own domain, on other domains and in general: {name}", header, rows)


def _squares(grid: Grid, name: str) -> str:
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
        for label, squares in (*grid.rows, *grid.below)
        for c in (squares[asked] for asked in grid.asked if asked in squares)
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
    made = terminal(f"{grid.name}: {what}", ["trained on"], [*map(str, range(1, len(names) + 1)), "other", *last])
    for label, squares in (*grid.rows, *(() if subtracted else grid.below)):
        own = next((str(names.index(c.asked) + 1) for c in squares.values() if c.in_domain), "")
        figures = [_starred(squares.get(name), confidence, subtracted) for name in grid.asked]
        general_rate = [] if subtracted else [Text(number(scaled(general(squares)), 0))]
        made.add_row(Text(one_line(f"{own} {label}".strip(), 60)), *figures, *general_rate)
    return made


def _starred(c: TransferCell | None, confidence: float, subtracted: bool) -> Text:
    if c is None:
        return Text(NONE)
    figure = square(c, subtracted).strip("[]") + star(c.above_control if subtracted else c.above_row, confidence)
    return Text(figure, style="bold" if c.in_domain else "")


def legend(grid: Grid) -> str:
    """What the columns of the terminal's table are."""
    names = [subject(name) for name in grid.asked if name != OTHERS]
    return "Asked about: " + ", ".join(f"{place} {name}" for place, name in enumerate(names, start=1)) + "."


def _rate(c: TransferCell | None) -> str:
    return NONE if c is None else interval(c.rate, c.low, c.high, 100)


def _contrast(contrast: Contrast | None) -> list[str]:
    if contrast is None:
        return [NONE, NONE]
    return [interval(contrast.value, contrast.low, contrast.high, 100, sign=True), p_value(contrast.p_holm)]
