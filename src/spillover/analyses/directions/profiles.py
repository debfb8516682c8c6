"""A chart over the layers of a model: a line a series, with the band of its null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from spillover.report.charts import MUTED, RUST, VIOLET, WIDE, Figure, Row, figure, finish

HEIGHT = 260  # pixels
COLOURS = (RUST, VIOLET)


@dataclass(frozen=True)
class Line:
    """`points`: (layer, value, lower and upper end of the null)."""

    name: str
    points: Sequence[tuple[int, float, float, float]]


def over_layers(title: str, y_title: str, lines: Sequence[Line], marked: int) -> Figure | None:
    """At most two lines; a dashed rule marks the layer of the tables."""
    rows: list[Row] = [
        {
            "label": f"{line.name}, layer {layer}: {value:.2f}, null {low:.2f} to {high:.2f}",
            "series": line.name,
            "x": layer,
            "y": value,
            "low": low,
            "high": high,
        }
        for line in lines
        for layer, value, low, high in line.points
    ]
    if not rows:
        return None
    names = [line.name for line in lines]
    return figure(lambda width: _over_layers(rows, names, y_title, marked, width), title, (len(lines), len(lines)))


def _over_layers(rows: list[Row], names: list[str], y_title: str, marked: int, width: int) -> dict[str, Any]:
    x = alt.X(
        "x:Q",
        title="layer (after this block; 0 = embeddings)",
        scale=alt.Scale(nice=False),
        axis=alt.Axis(format="d", tickMinStep=1),
    )
    y = alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False))
    scale = alt.Scale(domain=names, range=list(COLOURS[: len(names)]))
    legend = alt.Legend(title=None, orient="top", columns=2 if width == WIDE else 1, labelLimit=width, symbolOpacity=1)
    chart = alt.Chart(alt.NamedData("rows")).encode(x=x)
    band = chart.mark_area(opacity=0.13, aria=False).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q")
    layers = [
        band.encode(fill=alt.Fill("series:N", scale=scale, legend=legend)),
        alt.Chart(alt.NamedData("line")).mark_rule(stroke=MUTED, strokeDash=[4, 3], aria=False).encode(x=alt.X("at:Q")),
        chart.mark_line(strokeWidth=1.8, aria=False).encode(
            y=y, stroke=alt.Stroke("series:N", scale=scale, legend=None)
        ),
        chart.mark_point(size=16, opacity=1, filled=True).encode(
            y=y, fill=alt.Fill("series:N", scale=scale, legend=legend), description="label:N"
        ),
    ]
    return finish(alt.layer(*layers), width, HEIGHT, {"rows": rows, "line": [{"at": marked}]})
