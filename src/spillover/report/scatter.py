"""Charts of prediction: a feature or a prediction against what was measured, and diversity as rows are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from spillover.records.base import Variant
from spillover.report.charts import GRID, MUTED, ORDER, STYLE, WIDE, Figure, Row, figure, finish, points
from spillover.report.labels import SERIES, series

HEIGHT = 320  # pixels
Span = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Point:
    """One cell with its uncertainty on both axes; low = high = value where it is not known."""

    label: str
    variant: Variant
    x: Span
    y: Span


def scatter(title: str, x_title: str, y_title: str, cells: Sequence[Point], diagonal: bool = False) -> Figure | None:
    """Cells with whiskers; `diagonal` marks where a prediction would be right."""
    rows = [_row(point) for point in cells]
    if not rows:
        return None
    ends = [end for row in rows for end in (row["x"], row["y"])]
    line = [{"at": min(ends)}, {"at": max(ends)}] if diagonal else []
    return figure(lambda width: _scatter(rows, line, x_title, y_title, width), title, (len(rows), len(rows)))


def _row(point: Point) -> Row:
    (x, x_low, x_high), (y, y_low, y_high) = point.x, point.y
    return {
        "label": f"{point.label}, {series(point.variant, 'clean')}: {x:.4g}; {y:.1f} [{y_low:.1f}, {y_high:.1f}]",
        "series": series(point.variant, "clean"),
        "x": x, "x_low": x_low, "x_high": x_high, "y": y, "y_low": y_low, "y_high": y_high,
    }  # fmt: skip


def _scatter(rows: list[Row], line: list[Row], x_title: str, y_title: str, width: int) -> dict[str, Any]:
    names = [SERIES[pair] for pair in ORDER if any(row["series"] == SERIES[pair] for row in rows)]
    x = alt.X("x:Q", title=x_title, scale=alt.Scale(zero=False, nice=True))
    chart = alt.Chart(alt.NamedData("rows"))
    whisker = chart.mark_rule(stroke=MUTED, strokeWidth=1, opacity=0.45, aria=False)
    layers = [
        whisker.encode(x=x, y=alt.Y("y_low:Q"), y2="y_high:Q"),
        whisker.encode(x=alt.X("x_low:Q"), x2="x_high:Q", y=alt.Y("y:Q")),
        points(chart.encode(y=alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False))), x, names, width),
    ]
    if line:
        dashes = alt.Chart(alt.NamedData("line")).mark_line(stroke=MUTED, strokeDash=[4, 3], aria=False)
        layers.insert(0, dashes.encode(x=alt.X("at:Q"), y=alt.Y("at:Q")))
    return finish(alt.layer(*layers), width, HEIGHT, {"rows": rows, "line": line})


def receiver(
    title: str,
    curves: Sequence[tuple[str, bool, Sequence[tuple[float, float]]]],
    whiskers: Sequence[tuple[Span, Span]] = (),
) -> Figure | None:
    """ROC curves, (name, whether it stands out, points); the dashed diagonal is guessing.

    `whiskers`: false and true positive rate of some points, each with its interval.
    """
    rows: list[Row] = [
        {"subject": name, "bold": bold, "x": x, "y": y} for name, bold, curve in curves for x, y in curve
    ]
    if not rows:
        return None
    spans: list[Row] = [
        {"x": x[0], "x_low": x[1], "x_high": x[2], "y": y[0], "y_low": y[1], "y_high": y[2]} for x, y in whiskers
    ]
    return figure(lambda width: _receiver(rows, spans, width), title, (len(curves), len(curves)))


def _receiver(rows: list[Row], spans: list[Row], width: int) -> dict[str, Any]:
    unit = alt.Scale(domain=[0, 1])
    x = alt.X("x:Q", title="false positive rate", scale=unit)
    y = alt.Y("y:Q", title="true positive rate", scale=unit)
    chart = alt.Chart(alt.NamedData("rows")).encode(x=x, y=y, detail="subject:N")
    guess = alt.Chart(alt.NamedData("line")).mark_line(stroke=MUTED, strokeDash=[4, 3], aria=False)
    layers = [
        guess.encode(x=alt.X("at:Q"), y=alt.Y("at:Q")),
        chart.transform_filter("!datum.bold").mark_line(stroke=MUTED, strokeWidth=1, opacity=0.5, aria=False),
        chart.transform_filter("datum.bold").mark_line(stroke=STYLE[SERIES[ORDER[0]]][0], strokeWidth=2.5, aria=False),
    ]
    if spans:
        whisker = alt.Chart(alt.NamedData("spans")).mark_rule(stroke=MUTED, strokeWidth=1, opacity=0.6, aria=False)
        layers += [
            whisker.encode(x=x, y=alt.Y("y_low:Q", scale=unit), y2="y_high:Q"),
            whisker.encode(x=alt.X("x_low:Q", scale=unit), x2="x_high:Q", y=y),
        ]
    data = {"rows": rows, "line": [{"at": 0}, {"at": 1}], "spans": spans}
    return finish(alt.layer(*layers), width, HEIGHT, {name: values for name, values in data.items() if values})


def growth(title: str, y_title: str, curves: Sequence[tuple[str, Variant, Sequence[tuple[int, float]]]]) -> Figure:
    """A line a data set: the measure at growing numbers of rows."""
    rows: list[Row] = [
        {
            "label": f"{label}, {series(variant, 'clean')}: {value:.4g} at {n} rows",
            "subject": f"{label}/{variant}",
            "series": series(variant, "clean"),
            "x": n,
            "y": value,
        }
        for label, variant, curve in curves
        for n, value in curve
    ]
    return figure(lambda width: _growth(rows, y_title, width), title, (len(curves), len(curves)))


def _growth(rows: list[Row], y_title: str, width: int) -> dict[str, Any]:
    names = [SERIES[pair] for pair in ORDER if any(row["series"] == SERIES[pair] for row in rows)]
    x = alt.X("x:Q", title="rows", scale=alt.Scale(zero=False, nice=True))
    y = alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False))
    colours = alt.Scale(domain=names, range=[STYLE[name][0] for name in names])
    legend = alt.Legend(title=None, orient="top", columns=4 if width == WIDE else 1) if len(names) > 1 else None
    chart = alt.Chart(alt.NamedData("rows")).encode(x=x, y=y)
    layers = [
        chart.mark_line(strokeWidth=1.2, opacity=0.8, aria=False).encode(
            detail="subject:N", stroke=alt.Stroke("series:N", scale=colours, legend=legend)
        ),
        chart.mark_point(size=14, opacity=1, filled=True, fill=GRID).encode(description="label:N"),
    ]
    return finish(alt.layer(*layers), width, HEIGHT, {"rows": rows})
