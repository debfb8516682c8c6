"""Steering by domain asked about, for page and terminal: what A's direction does to answers about domain B.

A star: differs from random directions of the same length, by Holm over the matrix cells off the diagonal, or over
those on it. The diagonal, in brackets, is the direction's own domain. Figures are changes against the base model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from spillover.analyses.steering.report import ALPHA, SHORT
from spillover.records.base import Measure
from spillover.records.steering import SteeringMatrixCell, VersusRandom
from spillover.records.transfer import OTHERS
from spillover.report.html import Row, figure_html, folded_html, html_table, list_html, note_html
from spillover.report.labels import BASE_MODEL, asked_name, subject
from spillover.report.tables import terminal
from spillover.text import NONE, count_range, escape, interval, listing, number, one_line, p_value, percent

SCALES: dict[Measure, float] = {"rate": 100.0, "alignment": 1.0}
LEAST_SCALE: dict[Measure, float] = {"rate": 20.0, "alignment": 10.0}  # a map of small changes must look like one
RANDOM = "random directions, mean"
FAMILIES = (
    ("asked about another domain", lambda cell: cell.asked != OTHERS and not cell.in_domain),
    ("asked about the direction's own domain", lambda cell: cell.in_domain),
    ("asked about all other domains combined", lambda cell: cell.asked == OTHERS),
)


@dataclass(frozen=True)
class Matrix:
    """Cells of one model, layer and coefficient; `columns`: domains, and OTHERS last."""

    model: str
    layer: int
    coefficient: float
    cells: list[SteeringMatrixCell]

    @property
    def steered(self) -> list[SteeringMatrixCell]:
        return [cell for cell in self.cells if cell.rate_change is not None]

    @property
    def columns(self) -> list[str]:
        asked = {cell.asked for cell in self.cells}
        return [*sorted(asked - {OTHERS}), *sorted(asked & {OTHERS})]

    @property
    def title(self) -> str:
        where = f"after block {self.layer}, coefficient {self.coefficient:g}"
        return f"A domain's direction added to the base model ({one_line(self.model, 60)}, {where})"


def matrices(cells: Sequence[SteeringMatrixCell]) -> list[Matrix]:
    """One for each model, layer and coefficient."""
    found: defaultdict[tuple[str, int, float], list[SteeringMatrixCell]] = defaultdict(list)
    for cell in cells:
        found[cell.onto.model, cell.layer, cell.coefficient].append(cell)
    return [Matrix(*key, rows) for key, rows in found.items()]


def section(cells: Sequence[SteeringMatrixCell], confidence: float) -> str:
    """Heading, words, two maps and the table of each matrix."""
    return "\n".join(_matrix(matrix, confidence) for matrix in matrices(cells))


def _matrix(matrix: Matrix, confidence: float) -> str:
    note = (
        "Rows: domain of the added direction. Columns: held-out questions of a domain. Values: change against the same "
        f"model without it, paired by question. {_sizes(matrix)} Intervals: {number(100 * confidence, 0)} %, clustered "
        f"by question. * differs from random directions of the same length, Holm p < {ALPHA}."
    )
    parts = [f"<h3>{escape(matrix.title)}: questions of other domains</h3>", note_html(escape(note))]
    parts += [list_html(_sentences(matrix)), *(_map(matrix, measure) for measure in SCALES)]
    tables_html = "".join(_table(matrix, measure) for measure in SCALES)
    parts.append(folded_html("Every matrix cell with its interval", tables_html, len(matrix.cells)))
    return "\n".join(parts)


def _sizes(matrix: Matrix) -> str:
    single = [cell for cell in matrix.cells if cell.asked != OTHERS]
    n, coherent = ([getattr(cell, field) for cell in single] for field in ("n", "coherent"))
    return (
        f"A matrix cell has {count_range(n)} completions; the misaligned share is of the coherent ones, "
        f"{count_range(coherent)}."
    )


def sentences(cells: Sequence[SteeringMatrixCell]) -> list[str]:
    """What can be distinguished from random directions, and what is at chance."""
    return [sentence for matrix in matrices(cells) for sentence in (f"{matrix.title}.", *_sentences(matrix))]


def _sentences(matrix: Matrix) -> Iterator[str]:
    shares: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for cell in matrix.cells:
        if cell.asked != OTHERS:
            shares[cell.direction].append((cell.coherent, cell.n))
    of = {name: sum(c for c, _ in counts) / sum(n for _, n in counts) for name, counts in shares.items()}
    steered = [share for name, share in of.items() if name != "none"]
    yield (
        f"Coherent completions: {percent(of['none'])} % for the base model, {percent(min(steered))} to "
        f"{percent(max(steered))} % with a direction."
    )
    for measure in SCALES:
        for what, member in FAMILIES:
            of = [cell for cell in matrix.steered if member(cell)]
            compared = [cell for cell in of if change(cell, measure).p_holm is not None]
            start = f"{SHORT[measure].capitalize()}, {what}"
            starred = [cell for cell in compared if significant(cell, measure)]
            if of and not compared:
                yield f"{start}: not compared, because fewer than two random directions are available."
            elif starred:
                named = [f"{_pair(cell)} ({_figure(cell, measure, 1).strip('[]')})" for cell in starred]
                yield f"{start}: {len(starred)} of {len(compared)} differ from random directions: {listing(named)}."
            elif compared:
                yield f"{start}: no effect distinguishable from random directions (0 of {len(compared)})."


def change(cell: SteeringMatrixCell, measure: Measure) -> VersusRandom:
    """The change of a measure; of nothing where nothing was added."""
    found = cell.rate_change if measure == "rate" else cell.alignment_change
    return found or VersusRandom(value=None, low=None, high=None, p=None)


def significant(cell: SteeringMatrixCell, measure: Measure) -> bool:
    """Whether it is distinguishable from random directions."""
    p = change(cell, measure).p_holm
    return p is not None and p < ALPHA


def _pair(cell: SteeringMatrixCell) -> str:
    return f"{subject(cell.direction)} about {asked_name(cell.asked)}"


def _figure(cell: SteeringMatrixCell, measure: Measure, digits: int = 0) -> str:
    value = change(cell, measure).value
    figure = number(None if value is None else SCALES[measure] * value, digits, sign=True)
    return f"[{figure}]" if cell.in_domain else figure


def _map(matrix: Matrix, measure: Measure) -> str:
    from spillover.report.charts import HeatmapCell, Shade, heatmap  # Altair takes half a second to import

    scale, unit = SCALES[measure], " points" if measure == "rate" else ""
    drawn = list[HeatmapCell]()
    means: dict[str, float | None] = {}
    order = {asked: i for i, asked in enumerate(matrix.columns)}
    for cell in sorted(matrix.steered, key=lambda s: (s.direction, order[s.asked])):
        found = change(cell, measure)
        counted = cell.coherent if measure == "rate" else cell.counts.scored
        label = (
            f"{_pair(cell)}: {interval(found.value, found.low, found.high, scale, sign=True)}{unit}, "
            f"{counted} of {cell.n} completions, Holm p {p_value(found.p_holm)}"
        )
        value = None if found.value is None else scale * found.value
        mark = "*" if significant(cell, measure) else ""
        column = asked_name(cell.asked)
        drawn.append(HeatmapCell(subject(cell.direction), column, value, _figure(cell, measure), label, mark))
        if cell.asked != OTHERS:
            means[column] = None if found.controls_mean is None else scale * found.controls_mean
    for column, mean in means.items():
        label = f"{RANDOM}, about {column}: {number(mean, sign=True)}{unit}"
        drawn.append(HeatmapCell(RANDOM, column, mean, number(mean, 0, sign=True), label))
    scale_end = max(LEAST_SCALE[measure], *(abs(cell.value) for cell in drawn if cell.value is not None), 0.0)
    title = f"{matrix.title}: change of {SHORT[measure]} by domain asked about"
    chart = heatmap(title, drawn, ("direction of", "asked about"), Shade(0.0, scale_end, ("lower", "higher")))
    caption = f"Change of {SHORT[measure]}{', points' if unit else ''}"
    return f"{note_html(caption)}\n{figure_html(chart)}"


def _table(matrix: Matrix, measure: Measure) -> str:
    level = "misaligned %" if measure == "rate" else "mean alignment"
    header = ["", "completions", "coherent", level, "change", "random directions", "p against them", "Holm p"]
    rows = [
        Row(
            BASE_MODEL if cell.rate_change is None else f"direction of {subject(cell.direction)}",
            asked_name(cell.asked),
            [f"{cell.n}", f"{cell.coherent}", _level(cell, measure), *_versus_random(cell, measure)],
        )
        for cell in sorted(matrix.cells, key=lambda s: (s.rate_change is not None, s.direction))
    ]
    return html_table(f"Every matrix cell: {level}", header, rows)


def _level(cell: SteeringMatrixCell, measure: Measure) -> str:
    return interval(cell.rate, cell.low, cell.high, 100) if measure == "rate" else number(cell.mean_alignment)


def _versus_random(cell: SteeringMatrixCell, measure: Measure) -> list[str]:
    c, scale = change(cell, measure), SCALES[measure]
    return [
        interval(c.value, c.low, c.high, scale, sign=True),
        interval(c.controls_mean, c.controls_low, c.controls_high, scale, sign=True),
        p_value(c.p_controls),
        p_value(c.p_holm),
    ]


def tables(cells: Sequence[SteeringMatrixCell]) -> Iterator[Table]:
    """For a terminal, whose columns are numbered as `legend` says."""
    for matrix in matrices(cells):
        names = [name for name in matrix.columns if name != OTHERS]
        for measure in SCALES:
            figures = [*map(str, range(1, len(names) + 1)), "other"]
            table = terminal(f"{matrix.title}: change of {SHORT[measure]}", ["direction of"], figures)
            for direction in dict.fromkeys(cell.direction for cell in matrix.steered):
                row = {cell.asked: cell for cell in matrix.steered if cell.direction == direction}
                shown = [_starred(row.get(name), measure) for name in (*names, OTHERS)]
                table.add_row(Text(subject(direction)), *shown)
            yield table


def _starred(cell: SteeringMatrixCell | None, measure: Measure) -> Text:
    if cell is None:
        return Text(NONE)
    star = "*" if significant(cell, measure) else ""
    return Text(_figure(cell, measure).strip("[]") + star, style="bold" if cell.in_domain else "")


def legend(cells: Sequence[SteeringMatrixCell]) -> str:
    """What the columns of the terminal's tables are."""
    names = sorted({cell.asked for cell in cells} - {OTHERS})
    return "Asked about: " + ", ".join(f"{order} {subject(name)}" for order, name in enumerate(names, start=1)) + "."
