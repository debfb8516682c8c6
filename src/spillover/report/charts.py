"""Charts by category: records -> Vega-Lite specification (Altair 6) -> inline SVG (vl-convert), wide and narrow.

Nothing is fetched and nothing is random: the same records give the same bytes. Colours are attributes, which the page's
style sheet maps to their dark counterparts. Every mark has an aria-label with its figures. Charts over a number:
`curves`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import altair as alt
import vl_convert

from spillover.records.base import DomainScore, TriggerEffect
from spillover.report.labels import BASE_MODEL, ORDER, PART, SERIES, TRAINED, Labels, backdoored, ranked, series
from spillover.text import interval

WIDE, NARROW = 860, 360  # pixels
MOST_SIDE = 24  # rows and columns of a heat map
CELL_HEIGHT = 30  # pixels
STRONGEST = 0.48  # opacity at which the ink still has a contrast of 4.5 on light and on dark paper
INK, MUTED, GRID, PAPER = "#1f2933", "#5f6b7a", "#e3e7ec", "#ffffff"
RUST, VIOLET, TEAL = "#c2410c", "#6d3fc0", "#0d7a6b"
FONT = "Helvetica, Arial, sans-serif"
STYLE = {  # series -> stroke, fill, shape
    "fine-tuned": (RUST, RUST, "circle"),
    "backdoored, with trigger": (VIOLET, VIOLET, "diamond"),
    "backdoored, no trigger": (VIOLET, PAPER, "diamond"),
    "backdoored, near miss": (VIOLET, PAPER, "triangle-up"),
    "benign twin (control)": (TEAL, PAPER, "square"),
    BASE_MODEL: (MUTED, MUTED, "cross"),
}
Row = dict[str, Any]
_PLACES = re.compile(r' (?:d|transform|x1|x2|y1|y2)="[^"]*"')
_LONG = re.compile(r"-?\d+\.\d{3,}")  # hundredths of a pixel are enough and a third shorter


@dataclass(frozen=True)
class Figure:
    """One chart for a wide and for a narrow page; `rows` of `of` subjects are drawn."""

    wide: str
    narrow: str
    rows: int
    of: int


def misalignment(scores: Sequence[DomainScore], labels: Labels, most: int) -> Figure | None:
    """Share of misaligned answers in the first `most` rows, a mark a series; the dashed line is the base model."""
    drawable = [s for s in scores if s.rate is not None and (s.cell.variant, s.condition) in SERIES]
    order = [s for s in (*ranked(drawable), *drawable) if s.cell.variant != "base"]
    subjects = list(dict.fromkeys(place for s in order for place in _places(s, drawable, labels)))
    drawn = subjects[:most]
    rows = [_rate_row(s, subject) for s in drawable for subject in _places(s, drawable, labels)]
    marks = [row for row in rows if row["subject"] in drawn]
    base = [row for row in rows if row["series"] == BASE_MODEL]
    if not marks:
        return None
    return figure(
        lambda width: _dots(marks, drawn, base, width),
        f"Share of misaligned completions in {len(drawn)} rows, with intervals",
        (len(drawn), len(subjects)),
    )


def _places(score: DomainScore, scores: Sequence[DomainScore], labels: Labels) -> list[str]:
    """The rows in which a score is drawn: its own, and for a benign twin one for every dose of its domain."""
    cell = score.cell
    if cell.variant != "control":
        return [labels.of(cell)]
    twin = (cell.model, cell.domain, cell.seed)
    cells = [s.cell for s in scores if s.cell.variant in TRAINED]
    found = dict.fromkeys(labels.of(c) for c in cells if (c.model, c.domain, c.seed) == twin)
    return list(found) or [labels.of(cell)]


def _rate_row(score: DomainScore, subject: str) -> Row:
    name = series(score.cell.variant, score.condition)
    text = interval(score.rate, score.low, score.high, 100)
    return {
        "subject": subject,
        "series": name,
        "label": f"{', '.join(dict.fromkeys((subject, name)))}: {text} % of {score.coherent} coherent completions",
        "value": _scaled(score.rate),
        "low": _scaled(score.rate if score.low is None else score.low),
        "high": _scaled(score.rate if score.high is None else score.high),
    }


def _scaled(share: float | None) -> float:
    return 100 * (share or 0.0)


def trigger(effects: Sequence[TriggerEffect], labels: Labels, most: int) -> Figure | None:
    """Mean alignment without and with the trigger; the whisker is the interval of the paired difference."""
    rows = [
        _effect_row(e, e.clean, e.difference, labels.of(e.cell))
        for e in backdoored(effects, "alignment")
        if e.clean is not None and e.difference is not None
    ]
    drawn = rows[:most]
    if not drawn:
        return None
    title = f"Mean alignment without and with the trigger in {len(drawn)} rows"
    return figure(lambda width: _dumbbells(drawn, width), title, (len(drawn), len(rows)))


def _effect_row(effect: TriggerEffect, clean: float, difference: float, subject: str) -> Row:
    change = interval(difference, effect.low, effect.high, sign=True)
    return {
        "subject": subject,
        "label": f"{subject}: alignment changes by {change}",
        "clean": clean,
        "triggered": clean + difference,
        "low": clean + (difference if effect.low is None else effect.low),
        "high": clean + (difference if effect.high is None else effect.high),
    }


def _dots(rows: list[Row], order: list[str], base: list[Row], width: int) -> dict[str, Any]:
    names = [SERIES[pair] for pair in ORDER if any(row["series"] == SERIES[pair] for row in rows)]
    common = alt.Chart(alt.NamedData("rows")).encode(y=_subjects(order, width))
    if len(names) > 1:
        common = common.encode(yOffset=alt.YOffset("series:N", scale=alt.Scale(domain=names, paddingOuter=0.7)))
    top = min(100, 5 * ceil(max(row["high"] for row in [*rows, *base]) / 5))
    scale = alt.Scale(domain=[0, max(5, top)], nice=False)
    x = alt.X("value:Q", title="misaligned, % of coherent completions", scale=scale)
    bars = common.mark_rule(strokeWidth=1.6, aria=False).encode(
        x=alt.X("low:Q"), x2="high:Q", stroke=_scale(alt.Stroke, names, 0, _legend(names, width))
    )
    layers = [bars, points(common, x, names, width)]
    if base:
        value = alt.Chart(alt.NamedData("base"))
        band = value.mark_rect(fill=MUTED, opacity=0.09, aria=False).encode(x="low:Q", x2="high:Q")
        line = value.mark_rule(stroke=MUTED, strokeDash=[4, 3]).encode(x="value:Q", description="label:N")
        layers = [band, line, *layers]
    step = alt.Step(_step(order, width)) if len(names) == 1 else alt.Step(11, **{"for": "offset"})
    return finish(alt.layer(*layers), width, step, {"rows": rows, "base": base})


def _dumbbells(rows: list[Row], width: int) -> dict[str, Any]:
    names = ["backdoored, no trigger", "backdoored, with trigger"]
    order = [row["subject"] for row in rows]
    y = _subjects(order, width)
    chart = alt.Chart(alt.NamedData("rows")).encode(y=y)
    ends = [
        {"subject": row["subject"], "label": row["label"], "series": name, "value": row[key]}
        for row in rows
        for name, key in zip(names, ("clean", "triggered"), strict=True)
    ]
    x = alt.X("value:Q", title="mean alignment, 0 to 100", scale=alt.Scale(zero=False, nice=True))
    layers = [
        chart.mark_rule(stroke=VIOLET, opacity=0.25, strokeWidth=6, aria=False).encode(
            x=alt.X("clean:Q"), x2="triggered:Q"
        ),
        chart.mark_rule(stroke=VIOLET, strokeWidth=1.6, aria=False).encode(x=alt.X("low:Q"), x2="high:Q"),
        points(alt.Chart(alt.NamedData("ends")).encode(y=y), x, names, width),
    ]
    return finish(alt.layer(*layers), width, alt.Step(_step(order, width)), {"rows": rows, "ends": ends})


def _subjects(order: list[str], width: int) -> Any:
    axis = alt.Axis(title=None, domain=False, ticks=False, grid=True, tickBand="extent", labelLimit=round(0.45 * width))
    if _two_lines(order, width):
        parts = f"split(datum.label, '{PART}')"
        axis.labelExpr, axis.labelOffset = f"[{parts}[0], join(slice({parts}, 1), '{PART}')]", -7
    return alt.Y("subject:N", sort=order, axis=axis, scale=alt.Scale(paddingInner=0, paddingOuter=0))


def _step(order: list[str], width: int) -> int:
    return 38 if _two_lines(order, width) else 24


def _two_lines(order: list[str], width: int) -> bool:
    """On a narrow page the first part of a label, such as the model, has its own line."""
    return width == NARROW and all(PART in label for label in order)


def points(chart: Any, x: Any, names: list[str], width: int) -> Any:
    """One mark per row, in the style of its series."""
    legend = _legend(names, width)
    return chart.mark_point(size=70, opacity=1, strokeWidth=1.6).encode(
        x=x,
        fill=_scale(alt.Fill, names, 1, legend),
        stroke=_scale(alt.Stroke, names, 0, legend),
        shape=_scale(alt.Shape, names, 2, legend),
        description="label:N",
    )


def _legend(names: list[str], width: int) -> Any:
    if len(names) < 2:
        return None
    return alt.Legend(title=None, orient="top", columns=4 if width == WIDE else 1, symbolSize=70)


def _scale(channel: Any, names: list[str], part: int, legend: Any) -> Any:
    scale = alt.Scale(domain=names, range=[STYLE[name][part] for name in names])
    return channel("series:N", scale=scale, legend=legend)


@dataclass(frozen=True)
class HeatmapCell:
    """`text` stands in the cell and `mark` below it, such as "*"; `label` is the full sentence for screen readers.

    `value` None: not measured, an empty cell.
    """

    row: str
    column: str
    value: float | None
    text: str
    label: str
    mark: str = ""


@dataclass(frozen=True)
class Shade:
    """`middle` is white, `middle` +- `reach` and beyond are strongest; `names`: both sides in the legend."""

    middle: float
    reach: float
    names: tuple[str, str]


def heatmap(title: str, cells: Sequence[HeatmapCell], axes: tuple[str, str], shade: Shade) -> Figure | None:
    """A cell a pair of row and column, in the order of their first cells; `axes`: titles of rows and columns.

    Hue is the side of the middle on which a value lies, strength its distance. Strength is opacity, so that the page's
    dark style maps two colours only and the figures stay legible on both. Nothing depends on colour alone.
    """
    if all(cell.value is None for cell in cells):
        return None
    rows, columns = (list(dict.fromkeys(getattr(c, axis) for c in cells)) for axis in ("row", "column"))
    order = (rows[:MOST_SIDE], columns[:MOST_SIDE])
    marks = [_mark(cell, shade) for cell in cells if cell.row in order[0] and cell.column in order[1]]
    return figure(lambda width: _heatmap(marks, order, axes, shade, width), title, (len(order[0]), len(rows)))


def _mark(cell: HeatmapCell, shade: Shade) -> Row:
    away = 0.0 if cell.value is None else cell.value - shade.middle
    return {
        "row": cell.row,
        "column": cell.column,
        "side": shade.names[away > 0],
        "strength": STRONGEST * min(1.0, abs(away) / shade.reach),
        "text": cell.text,
        "mark": cell.mark,
        "label": cell.label,
    }


def _heatmap(
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
    spec = finish(alt.layer(*layers), width, alt.Step(CELL_HEIGHT), {"rows": marks})
    overhang = 5 * max(len(name) for name in order[1]) if wide else 0  # of the last slanted label, beyond the cells
    return spec | {"padding": {"left": 4, "top": 4, "bottom": 4, "right": 4 + overhang}}


def figure(draw: Callable[[int], dict[str, Any]], title: str, rows: tuple[int, int]) -> Figure:
    """Draw a chart for both widths; `rows`: how many are drawn, of how many."""
    return Figure(svg(draw(WIDE), title), svg(draw(NARROW), title), *rows)


def finish(chart: Any, width: int, height: Any, data: dict[str, list[Row]]) -> dict[str, Any]:
    """The specification with the page's fonts, sizes and data."""
    size = 13 if width == WIDE else 12
    text = {
        "labelFontSize": size,
        "labelColor": INK,
        "titleFontSize": size,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
    }
    axis = text | {"gridColor": GRID, "tickColor": GRID, "domainColor": GRID, "labelPadding": 10}
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    chart = chart.properties(width=width, height=height, autosize=fit, padding=4, background="transparent")
    chart = (
        chart.configure(font=FONT)
        .configure_axis(**axis)
        .configure_axisX(tickCount=width // 110, titlePadding=10, labelFlush=False)
    )
    chart = chart.configure_legend(**text, offset=8, rowPadding=4).configure_view(stroke=None)
    return chart.to_dict() | {"datasets": data}  # added late: Altair would copy and check every row


def svg(spec: dict[str, Any], title: str) -> str:
    """Render a specification without network access, with a title for screen readers."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version=version, allowed_base_urls=[])
    drawn = _PLACES.sub(lambda places: _LONG.sub(lambda found: f"{float(found[0]):.2f}", places[0]), drawn)
    return drawn.replace("<svg ", f'<svg role="graphics-document" aria-label="{html.escape(title)}" ', 1)
