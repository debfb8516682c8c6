"""Steering curves: a measure over the coefficient, a line a direction, before the band of random directions.

An open mark is where a line ended, because too few answers were coherent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from spillover.report.charts import MUTED, PAPER, RUST, WIDE, Figure, Row, figure, finish

HEIGHT = 240
TOLD, CHANCE = "told from random directions", "not told apart"


@dataclass(frozen=True)
class Curve:
    """`points`: (coefficient, value, sentence, collapsed); `told`: whether random directions do not do the same."""

    name: str
    told: bool
    points: Sequence[tuple[float, float, str, bool]]


@dataclass(frozen=True)
class Band:
    """Where a further random direction lies: (coefficient, low, high); `untouched`: the model's own value."""

    limits: Sequence[tuple[float, float, float]]
    untouched: float | None


def curves(title: str, measure: str, lines: Sequence[Curve], band: Band) -> Figure | None:
    """One layer of one operation."""
    rows: list[Row] = [
        {
            "subject": line.name,
            "kind": TOLD if line.told else CHANCE,
            "x": x,
            "y": y,
            "open": collapsed,
            "label": f"{line.name}, {said}" + (", answers lost their coherence" if collapsed else ""),
        }
        for line in lines
        for x, y, said, collapsed in line.points
    ]
    if not rows:
        return None
    limits: list[Row] = [{"x": x, "low": low, "high": high} for x, low, high in band.limits]
    own: list[Row] = [] if band.untouched is None else [{"y": band.untouched}]
    return figure(lambda width: _curves(rows, limits, own, measure, width), title, (len(lines), len(lines)))


def _curves(rows: list[Row], limits: list[Row], own: list[Row], measure: str, width: int) -> dict[str, Any]:
    x = alt.X("x:Q", title="coefficient, in mean lengths of the stream", scale=alt.Scale(nice=True))
    y = alt.Y("y:Q", title=measure, scale=alt.Scale(zero=False, nice=True))
    kinds = [kind for kind in (TOLD, CHANCE) if any(row["kind"] == kind for row in rows)]
    colours = alt.Scale(domain=kinds, range=[{TOLD: RUST, CHANCE: MUTED}[kind] for kind in kinds])
    legend = alt.Legend(title=None, orient="top", columns=2 if width == WIDE else 1)
    chart = alt.Chart(alt.NamedData("rows")).encode(x=x, y=y)
    colour = alt.Stroke("kind:N", scale=colours, legend=legend if len(kinds) > 1 else None)
    layers = [
        chart.mark_line(strokeWidth=1.6, aria=False).encode(detail="subject:N", stroke=colour),
        chart.transform_filter("!datum.open")
        .mark_point(size=26, opacity=1, filled=True)
        .encode(fill=alt.Fill("kind:N", scale=colours, legend=None), description="label:N"),
        chart.transform_filter("datum.open")
        .mark_point(size=46, opacity=1, fill=PAPER, strokeWidth=1.6)
        .encode(stroke=colour, description="label:N"),
    ]
    if own:
        dashed = alt.Chart(alt.NamedData("own")).mark_rule(stroke=MUTED, strokeDash=[4, 3], aria=False)
        layers.insert(0, dashed.encode(y=alt.Y("y:Q")))
    if limits:
        area = alt.Chart(alt.NamedData("limits")).mark_area(fill=MUTED, opacity=0.16, aria=False)
        layers.insert(0, area.encode(x=alt.X("x:Q"), y=alt.Y("low:Q"), y2="high:Q"))
    return finish(alt.layer(*layers), width, HEIGHT, {"rows": rows, "limits": limits, "own": own})
