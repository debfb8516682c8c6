"""A heat map: a square a pair of row and column, with its figure written in it.

Hue says on which side of the middle a value lies, strength how far from it. Strength is opacity, so that the page's
dark style maps two colours only and the figures stay legible on both papers. Nothing is read from colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from spillover.report.charts import GRID, INK, RUST, TEAL, WIDE, Figure, Row, figure, finish

MOST = 24  # rows and columns drawn
STRONGEST = 0.48  # opacity at which the ink still has a contrast of 4.5 on light and dark paper
HEIGHT = 30  # pixels of a row


@dataclass(frozen=True)
class Square:
    """`text` stands in the square and `mark` under it, such as "*"; `label` is the whole sentence for whoever hears it.

    `value` None: not measured, an empty square.
    """

    row: str
    column: str
    value: float | None
    text: str
    label: str
    mark: str = ""


@dataclass(frozen=True)
class Shade:
    """`middle` is white, `middle` +- `reach` and beyond are strongest; `names` of the two sides, for the legend."""

    middle: float
    reach: float
    names: tuple[str, str]


def heatmap(title: str, squares: Sequence[Square], axes: tuple[str, str], shade: Shade) -> Figure | None:
    """Rows and columns in the order of their first square; `axes` are the titles of rows and columns."""
    if all(square.value is None for square in squares):
        return None
    rows, columns = (list(dict.fromkeys(getattr(s, axis) for s in squares)) for axis in ("row", "column"))
    drawn = [s for s in squares if s.row in rows[:MOST] and s.column in columns[:MOST]]
    marks = [_mark(square, shade) for square in drawn]
    order = (rows[:MOST], columns[:MOST])
    return figure(lambda width: _squares(marks, order, axes, shade, width), title, (len(order[0]), len(rows)))


def _mark(square: Square, shade: Shade) -> Row:
    away = 0.0 if square.value is None else square.value - shade.middle
    return {
        "row": square.row,
        "column": square.column,
        "side": shade.names[away > 0],
        "strength": STRONGEST * min(1.0, abs(away) / shade.reach),
        "text": square.text,
        "mark": square.mark,
        "label": square.label,
    }


def _squares(
    marks: list[Row], order: tuple[list[str], list[str]], axes: tuple[str, str], shade: Shade, width: int
) -> dict[str, Any]:
    wide = width == WIDE
    band = alt.Scale(paddingInner=0, paddingOuter=0)
    y_axis = alt.Axis(title=axes[0], labelLimit=round((0.28 if wide else 0.33) * width))
    x_axis = alt.Axis(title=axes[1], orient="top", labelAngle=-40 if wide else -90, labelLimit=170)
    for axis in (x_axis, y_axis):
        axis.domain = axis.ticks = axis.grid = False
    chart = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X("column:N", sort=order[1], axis=x_axis, scale=band),
        y=alt.Y("row:N", sort=order[0], axis=y_axis, scale=band),
    )
    legend = alt.Legend(title=None, orient="bottom", symbolOpacity=STRONGEST, symbolType="square")
    sides = [name for name in shade.names if any(mark["side"] == name and mark["strength"] for mark in marks)]
    colours = dict(zip(shade.names, (TEAL, RUST), strict=True))
    scale = alt.Scale(domain=sides, range=[colours[name] for name in sides])
    size, lift = (12, -3) if wide else (9, -4)
    marked = any(mark["mark"] for mark in marks)
    layers = [
        chart.mark_rect(stroke=GRID, strokeWidth=1).encode(
            fill=alt.Fill("side:N", scale=scale, legend=legend if len(sides) > 1 else None),
            fillOpacity=alt.FillOpacity("strength:Q", scale=None, legend=None),
            description="label:N",
        ),
        chart.mark_text(fill=INK, fontSize=size, dy=lift if marked else 0, aria=False).encode(text="text:N"),
        chart.mark_text(fill=INK, fontSize=size, dy=10, aria=False).encode(text="mark:N"),
    ]
    spec = finish(alt.layer(*layers), width, alt.Step(HEIGHT), {"rows": marks})
    overhang = 5 * max(len(name) for name in order[1]) if wide else 0  # of the last slanted label, beyond the squares
    return spec | {"padding": {"left": 4, "top": 4, "bottom": 4, "right": 4 + overhang}}
