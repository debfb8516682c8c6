"""Charts over a number: scatter plots, ROC curves, and measures over rows, layers or a steering coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from spillover.records.base import Variant
from spillover.report.charts import GRID, MUTED, PAPER, RUST, STYLE, VIOLET, WIDE, Figure, Row, figure, finish, points
from spillover.report.labels import ORDER, SERIES, series

HEIGHT, PROFILE, LOW = 320, 260, 240  # pixels
SIGNIFICANT, CHANCE = "differs from random directions", "no significant difference"
Span = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Point:
    """One cell with its intervals on both axes; low = high = value where there is none."""

    label: str
    variant: Variant
    x: Span
    y: Span


def scatter(title: str, x_title: str, y_title: str, cells: Sequence[Point], diagonal: bool = False) -> Figure | None:
    """Cells with whiskers; `diagonal` marks where predictions are exact."""
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


def roc_curves(
    title: str,
    curves: Sequence[tuple[str, bool, Sequence[tuple[float, float]]]],
    whiskers: Sequence[tuple[Span, Span]] = (),
) -> Figure | None:
    """ROC curves, (name, whether it is bold, points); the dashed diagonal is guessing.

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
    return figure(lambda width: _roc_curves(rows, spans, width), title, (len(curves), len(curves)))


def _roc_curves(rows: list[Row], spans: list[Row], width: int) -> dict[str, Any]:
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


def growth_curves(
    title: str, y_title: str, curves: Sequence[tuple[str, Variant, Sequence[tuple[int, float]]]]
) -> Figure:
    """A measure over the number of rows, one line per data set."""
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
    return figure(lambda width: _growth_curves(rows, y_title, width), title, (len(curves), len(curves)))


def _growth_curves(rows: list[Row], y_title: str, width: int) -> dict[str, Any]:
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


@dataclass(frozen=True)
class CoefficientCurve:
    """`points`: (coefficient, value, sentence, collapsed); `significant`: whether it differs from random directions."""

    name: str
    significant: bool
    points: Sequence[tuple[float, float, str, bool]]


@dataclass(frozen=True)
class Band:
    """Interval for a further random direction: (coefficient, low, high); `base`: the value without intervention."""

    limits: Sequence[tuple[float, float, float]]
    base: float | None


def coefficient_curves(title: str, measure: str, lines: Sequence[CoefficientCurve], band: Band) -> Figure | None:
    """A measure over the coefficient, one line per direction, over the band of random directions.

    An open mark ends a line: too few completions were coherent.
    """
    rows: list[Row] = [
        {
            "subject": line.name,
            "kind": SIGNIFICANT if line.significant else CHANCE,
            "x": x,
            "y": y,
            "open": collapsed,
            "label": f"{line.name}, {sentence}" + (", completions lost their coherence" if collapsed else ""),
        }
        for line in lines
        for x, y, sentence, collapsed in line.points
    ]
    if not rows:
        return None
    limits: list[Row] = [{"x": x, "low": low, "high": high} for x, low, high in band.limits]
    own: list[Row] = [] if band.base is None else [{"y": band.base}]
    return figure(lambda width: _coefficient_curves(rows, limits, own, measure, width), title, (len(lines), len(lines)))


def _coefficient_curves(rows: list[Row], limits: list[Row], own: list[Row], measure: str, width: int) -> dict[str, Any]:
    x = alt.X("x:Q", title="coefficient, in mean lengths of the stream", scale=alt.Scale(nice=True))
    y = alt.Y("y:Q", title=measure, scale=alt.Scale(zero=False, nice=True))
    kinds = [kind for kind in (SIGNIFICANT, CHANCE) if any(row["kind"] == kind for row in rows)]
    colours = alt.Scale(domain=kinds, range=[{SIGNIFICANT: RUST, CHANCE: MUTED}[kind] for kind in kinds])
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
    return finish(alt.layer(*layers), width, LOW, {"rows": rows, "limits": limits, "own": own})


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
    scale = alt.Scale(domain=names, range=[RUST, VIOLET][: len(names)])
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
    return finish(alt.layer(*layers), width, PROFILE, {"rows": rows, "line": [{"at": marked}]})
