"""Small radars, one a row: an axis a subject, numbered clockwise from the top, 0 at the centre.

Vega-Lite has no polar axes, so places are worked out here, in pixels from the upper left. What the numbers of the axes
stand for is written under the radars; every corner says its figures aloud.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, cos, pi, sin
from typing import Any

import altair as alt

from spillover.report.charts import GRID, INK, MUTED, RUST, TEAL, WIDE, Figure, Row, figure, finish
from spillover.text import number

MOST = 24  # radars drawn
STEP = 20  # percent: the outermost ring is a multiple of it
RINGS = 2
LINE, TITLE = 17, 30  # pixels of a line of names, and of a radar's title

Values = list[float | None]
"""Percent by axis; None is not measured."""


@dataclass(frozen=True)
class Polygon:
    """One radar: its values, what each corner says, and the values of the dashed polygon."""

    title: str
    values: Values
    labels: list[str]
    reference: Values


@dataclass(frozen=True)
class Frame:
    """Where one radar stands."""

    x: float
    y: float
    radius: float
    axes: int

    def place(self, axis: int, share: float) -> tuple[float, float]:
        """A point on an axis, `share` of the way out."""
        angle = 2 * pi * axis / self.axes
        return self.x + share * self.radius * sin(angle), self.y - share * self.radius * cos(angle)


def radar(title: str, axes: Sequence[str], polygons: Sequence[Polygon], reference: str) -> Figure | None:
    """`reference` names the dashed polygon."""
    known = [v for p in polygons for v in (*p.values, *p.reference) if v is not None]
    if not known or len(axes) < 3:
        return None
    outer = max(STEP, STEP * ceil(max(known) / STEP))
    drawn = polygons[:MOST]
    return figure(lambda width: _radars(axes, drawn, reference, outer, width), title, (len(drawn), len(polygons)))


def _radars(axes: Sequence[str], polygons: Sequence[Polygon], reference: str, outer: int, width: int) -> dict[str, Any]:
    columns = 4 if width == WIDE else 2
    side = width / columns
    rows = ceil(len(polygons) / columns)
    frames = [
        Frame((i % columns + 0.5) * side, i // columns * (side + TITLE) + TITLE + side / 2, 0.38 * side, len(axes))
        for i in range(len(polygons))
    ]
    names = _names(axes, reference, rows * (side + TITLE) + LINE, side, columns)
    height = rows * (side + TITLE) + LINE * (ceil(len(axes) / columns) + 2)
    data: dict[str, list[Row]] = {"lines": [], "dashed": [], "corners": [], "words": [], "names": names}
    for i, (frame, polygon) in enumerate(zip(frames, polygons, strict=True)):
        data["lines"] += _grid(frame, str(i))
        data["dashed"] += _corners(frame, polygon.reference, outer, str(i))
        corners = _corners(frame, polygon.values, outer, str(i))
        data["corners"] += [row | {"label": polygon.labels[row["axis"]]} for row in corners]
        data["words"] += _words(frame, polygon.title, outer, side)
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False))

    def layer(name: str) -> Any:
        return alt.Chart(alt.NamedData(name)).encode(x=x, y=y)

    closed = {"interpolate": "linear-closed", "aria": False}
    path = {"detail": alt.Detail("path:N"), "order": alt.Order("axis:Q")}
    small = {"fontSize": 11 if width == WIDE else 10, "aria": False}
    layers = [
        layer("lines").mark_line(stroke=GRID, strokeWidth=1, **closed).encode(**path),
        layer("dashed").mark_line(stroke=TEAL, strokeWidth=1.4, strokeDash=[4, 3], **closed).encode(**path),
        layer("corners").mark_line(stroke=RUST, strokeWidth=1.6, fill=RUST, fillOpacity=0.15, **closed).encode(**path),
        layer("corners").mark_point(fill=RUST, stroke=RUST, opacity=1, size=14).encode(description="label:N"),
        layer("words").mark_text(fill=MUTED, **small).encode(text="text:N"),
        layer("words").transform_filter("datum.title").mark_text(
            fill=INK, fontWeight="bold", limit=side, **small
        ).encode(text="title:N"),
        layer("names").mark_text(fill=INK, align="left", limit=side - 8, **small).encode(text="text:N"),
    ]  # fmt: skip
    return finish(alt.layer(*layers), width, height, data)


def _grid(frame: Frame, name: str) -> Iterator[Row]:
    """Rings and spokes as closed paths; a spoke goes out and back."""
    for ring in range(1, RINGS + 1):
        for axis in range(frame.axes):
            x, y = frame.place(axis, ring / RINGS)
            yield {"path": f"{name} ring {ring}", "axis": axis, "x": x, "y": y}
    for spoke in range(frame.axes):
        for end, share in enumerate((0.0, 1.0)):
            x, y = frame.place(spoke, share)
            yield {"path": f"{name} spoke {spoke}", "axis": end, "x": x, "y": y}


def _corners(frame: Frame, values: Values, outer: int, name: str) -> Iterator[Row]:
    for axis, value in enumerate(values):
        if value is not None:
            x, y = frame.place(axis, value / outer)
            yield {"path": name, "axis": axis, "x": x, "y": y}


def _words(frame: Frame, title: str, outer: int, side: float) -> Iterator[Row]:
    """Title, the numbers of the axes, and what the outermost ring stands for."""
    yield {"x": frame.x, "y": frame.y - side / 2 - TITLE / 2, "text": "", "title": title}
    for axis in range(frame.axes):
        x, y = frame.place(axis, 1.15)
        yield {"x": x, "y": y, "text": str(axis + 1), "title": ""}
    x, y = frame.place(0, 1.0)
    yield {"x": x + 22, "y": y - 7, "text": f"{number(outer, 0)} %", "title": ""}


def _names(axes: Sequence[str], reference: str, top: float, side: float, columns: int) -> list[Row]:
    rows: list[Row] = [
        {"x": i % columns * side + 4, "y": top + i // columns * LINE, "text": f"{i + 1} {name}"}
        for i, name in enumerate(axes)
    ]
    if reference:
        rows.append({"x": 4, "y": top + ceil(len(axes) / columns) * LINE, "text": f"dashed: {reference}"})
    return rows
