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
REACH: dict[Measure, float] = {"rate": 20.0, "alignment": 10.0}  # a map of small changes must look like one
RANDOM = "random directions, mean"
FAMILIES = (
    ("asked about another domain", lambda square: square.asked != OTHERS and not square.in_domain),
    ("asked about the direction's own domain", lambda square: square.in_domain),
    ("asked about all other domains combined", lambda square: square.asked == OTHERS),
)


@dataclass(frozen=True)
class Matrix:
    """Squares of one model, layer and coefficient; `columns`: domains, and OTHERS last."""

    model: str
    layer: int
    coefficient: float
    squares: list[SteeringMatrixCell]

    @property
    def steered(self) -> list[SteeringMatrixCell]:
        return [square for square in self.squares if square.rate_change is not None]

    @property
    def columns(self) -> list[str]:
        asked = {square.asked for square in self.squares}
        return [*sorted(asked - {OTHERS}), *sorted(asked & {OTHERS})]

    @property
    def title(self) -> str:
        where = f"after block {self.layer}, coefficient {self.coefficient:g}"
        return f"A domain's direction added to the base model ({one_line(self.model, 60)}, {where})"


def matrices(squares: Sequence[SteeringMatrixCell]) -> list[Matrix]:
    """One for each model, layer and coefficient."""
    found: defaultdict[tuple[str, int, float], list[SteeringMatrixCell]] = defaultdict(list)
    for square in squares:
        found[square.onto.model, square.layer, square.coefficient].append(square)
    return [Matrix(*key, rows) for key, rows in found.items()]


def section(squares: Sequence[SteeringMatrixCell], confidence: float) -> str:
    """Heading, words, two maps and the table of each matrix."""
    return "\n".join(_matrix(matrix, confidence) for matrix in matrices(squares))


def _matrix(matrix: Matrix, confidence: float) -> str:
    note = (
        "Rows: domain of the added direction. Columns: held-out questions of a domain. Values: change against the same "
        f"model without it, paired by question. {_sizes(matrix)} Intervals: {number(100 * confidence, 0)} %, clustered "
        f"by question. * differs from random directions of the same length, Holm p < {ALPHA}."
    )
    parts = [f"<h3>{escape(matrix.title)}: questions of other domains</h3>", note_html(escape(note))]
    parts += [list_html(_words(matrix)), *(_map(matrix, measure) for measure in SCALES)]
    tables_html = "".join(_table(matrix, measure) for measure in SCALES)
    parts.append(folded_html("Every matrix cell with its interval", tables_html, len(matrix.squares)))
    return "\n".join(parts)


def _sizes(matrix: Matrix) -> str:
    single = [square for square in matrix.squares if square.asked != OTHERS]
    n, coherent = ([getattr(square, field) for square in single] for field in ("n", "coherent"))
    return (
        f"A matrix cell has {count_range(n)} completions; the misaligned share is of the coherent ones, "
        f"{count_range(coherent)}."
    )


def words(squares: Sequence[SteeringMatrixCell]) -> list[str]:
    """What can be distinguished from random directions, and what is at chance."""
    return [said for matrix in matrices(squares) for said in (f"{matrix.title}.", *_words(matrix))]


def _words(matrix: Matrix) -> Iterator[str]:
    shares: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for square in matrix.squares:
        if square.asked != OTHERS:
            shares[square.direction].append((square.coherent, square.n))
    of = {name: sum(c for c, _ in counts) / sum(n for _, n in counts) for name, counts in shares.items()}
    steered = [share for name, share in of.items() if name != "none"]
    yield (
        f"Coherent completions: {percent(of['none'])} % for the base model, {percent(min(steered))} to "
        f"{percent(max(steered))} % with a direction."
    )
    for measure in SCALES:
        for what, member in FAMILIES:
            of = [square for square in matrix.steered if member(square)]
            compared = [square for square in of if change(square, measure).p_holm is not None]
            start = f"{SHORT[measure].capitalize()}, {what}"
            told = [square for square in compared if significant(square, measure)]
            if of and not compared:
                yield f"{start}: not compared, because fewer than two random directions are available."
            elif told:
                named = [f"{_pair(square)} ({_figure(square, measure, 1).strip('[]')})" for square in told]
                yield f"{start}: {len(told)} of {len(compared)} differ from random directions: {listing(named)}."
            elif compared:
                yield f"{start}: no effect distinguishable from random directions (0 of {len(compared)})."


def change(square: SteeringMatrixCell, measure: Measure) -> VersusRandom:
    """The change of a measure; of nothing where nothing was added."""
    found = square.rate_change if measure == "rate" else square.alignment_change
    return found or VersusRandom(value=None, low=None, high=None, p=None)


def significant(square: SteeringMatrixCell, measure: Measure) -> bool:
    """Whether it is distinguishable from random directions."""
    p = change(square, measure).p_holm
    return p is not None and p < ALPHA


def _pair(square: SteeringMatrixCell) -> str:
    return f"{subject(square.direction)} about {asked_name(square.asked)}"


def _figure(square: SteeringMatrixCell, measure: Measure, digits: int = 0) -> str:
    value = change(square, measure).value
    said = number(None if value is None else SCALES[measure] * value, digits, sign=True)
    return f"[{said}]" if square.in_domain else said


def _map(matrix: Matrix, measure: Measure) -> str:
    from spillover.report.charts import HeatmapCell, Shade, heatmap  # Altair takes half a second to import

    scale, unit = SCALES[measure], " points" if measure == "rate" else ""
    drawn = list[HeatmapCell]()
    means: dict[str, float | None] = {}
    place = {asked: i for i, asked in enumerate(matrix.columns)}
    for square in sorted(matrix.steered, key=lambda s: (s.direction, place[s.asked])):
        found = change(square, measure)
        counted = square.coherent if measure == "rate" else square.counts.scored
        said = (
            f"{_pair(square)}: {interval(found.value, found.low, found.high, scale, sign=True)}{unit}, "
            f"{counted} of {square.n} completions, Holm p {p_value(found.p_holm)}"
        )
        value = None if found.value is None else scale * found.value
        mark = "*" if significant(square, measure) else ""
        column = asked_name(square.asked)
        drawn.append(HeatmapCell(subject(square.direction), column, value, _figure(square, measure), said, mark))
        if square.asked != OTHERS:
            means[column] = None if found.controls_mean is None else scale * found.controls_mean
    for column, mean in means.items():
        said = f"{RANDOM}, about {column}: {number(mean, sign=True)}{unit}"
        drawn.append(HeatmapCell(RANDOM, column, mean, number(mean, 0, sign=True), said))
    reach = max(REACH[measure], *(abs(square.value) for square in drawn if square.value is not None), 0.0)
    title = f"{matrix.title}: change of {SHORT[measure]} by domain asked about"
    made = heatmap(title, drawn, ("direction of", "asked about"), Shade(0.0, reach, ("lower", "higher")))
    caption = f"Change of {SHORT[measure]}{', points' if unit else ''}"
    return f"{note_html(caption)}\n{figure_html(made)}"


def _table(matrix: Matrix, measure: Measure) -> str:
    whole = "misaligned %" if measure == "rate" else "mean alignment"
    header = ["", "completions", "coherent", whole, "change", "random directions", "p against them", "Holm p"]
    rows = [
        Row(
            BASE_MODEL if square.rate_change is None else f"direction of {subject(square.direction)}",
            asked_name(square.asked),
            [f"{square.n}", f"{square.coherent}", _whole(square, measure), *_beside(square, measure)],
        )
        for square in sorted(matrix.squares, key=lambda s: (s.rate_change is not None, s.direction))
    ]
    return html_table(f"Every matrix cell: {whole}", header, rows)


def _whole(square: SteeringMatrixCell, measure: Measure) -> str:
    return interval(square.rate, square.low, square.high, 100) if measure == "rate" else number(square.mean_alignment)


def _beside(square: SteeringMatrixCell, measure: Measure) -> list[str]:
    c, scale = change(square, measure), SCALES[measure]
    return [
        interval(c.value, c.low, c.high, scale, sign=True),
        interval(c.controls_mean, c.controls_low, c.controls_high, scale, sign=True),
        p_value(c.p_controls),
        p_value(c.p_holm),
    ]


def tables(squares: Sequence[SteeringMatrixCell]) -> Iterator[Table]:
    """For a terminal, whose columns are numbered as `legend` says."""
    for matrix in matrices(squares):
        names = [name for name in matrix.columns if name != OTHERS]
        for measure in SCALES:
            figures = [*map(str, range(1, len(names) + 1)), "other"]
            made = terminal(f"{matrix.title}: change of {SHORT[measure]}", ["direction of"], figures)
            for direction in dict.fromkeys(square.direction for square in matrix.steered):
                row = {square.asked: square for square in matrix.steered if square.direction == direction}
                shown = [_starred(row.get(name), measure) for name in (*names, OTHERS)]
                made.add_row(Text(subject(direction)), *shown)
            yield made


def _starred(square: SteeringMatrixCell | None, measure: Measure) -> Text:
    if square is None:
        return Text(NONE)
    star = "*" if significant(square, measure) else ""
    return Text(_figure(square, measure).strip("[]") + star, style="bold" if square.in_domain else "")


def legend(squares: Sequence[SteeringMatrixCell]) -> str:
    """What the columns of the terminal's tables are."""
    names = sorted({square.asked for square in squares} - {OTHERS})
    return "Asked about: " + ", ".join(f"{place} {subject(name)}" for place, name in enumerate(names, start=1)) + "."
