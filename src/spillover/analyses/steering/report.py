"""Steering in the report: what directions do to models, compared with what random directions of the same length do.

Words name what is distinguishable from random directions and count what is not. Curves: one a layer, the band is
where a further random direction lies. Heat map: directions by models. All figures are in the tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from spillover.directions.random_controls import prediction_interval
from spillover.records.base import Cell, Measure
from spillover.records.steering import WITHOUT_STEERING, SteeringEffect, SteeringMatrixCell, SteeringPoint
from spillover.report.html import Row, figure_html, folded_html, html_table, list_html, note_html
from spillover.report.labels import Labels, subject
from spillover.report.tables import terminal
from spillover.text import NONE, count_range, escape, interval, listing, number, one_line, p_value, percent, several

ALPHA = 0.05
LABELS: dict[Measure, str] = {"rate": "misaligned, % of coherent completions", "alignment": "mean alignment, 0 to 100"}
SHORT: dict[Measure, str] = {"rate": "misaligned share", "alignment": "mean alignment"}
VERBS = {"add": "adding a direction to", "ablate": "projecting a direction out of", "clamp": "clamping a direction of"}


def section(points: Sequence[SteeringPoint], effects: Sequence[SteeringEffect], confidence: float) -> str:
    """The whole section."""
    note = (
        "The unit of a coefficient is the mean norm of the residual stream at its layer, over completions without "
        "steering. Each direction is compared with norm-matched random directions on the same questions and seeds. "
        "p-values are Holm-adjusted over all directions, models and layers of an operation and measure, and are no "
        "smaller than the effect's own p over questions. "
        f"Intervals: {number(100 * confidence, 0)} %, clustered by question. Grey band: prediction interval of a "
        "random direction. Open marks: too few coherent completions; the line ends there."
    )
    parts = [note_html(note), list_html(sentences(effects, points)), *_curves(points, effects, confidence)]
    parts += _heatmaps(effects)
    for title, rows, made in (
        ("Every effect compared with random ones", effects, _effects_table(effects)),
        ("Every coefficient", points, _points_table(points)),
    ):
        parts.append(folded_html(title, made, len(rows)) if rows else "")
    return "\n".join(part for part in parts if part)


def sentences(effects: Sequence[SteeringEffect], points: Sequence[SteeringPoint]) -> list[str]:
    """What is distinguishable from random directions, what is not, and where coherence ended."""
    return [*_significance_sentences(effects), *_incoherence_sentences(points)]


def _significance_sentences(effects: Sequence[SteeringEffect]) -> Iterator[str]:
    groups: defaultdict[tuple[str, Measure, bool], list[SteeringEffect]] = defaultdict(list)
    for effect in effects:
        groups[effect.operation, effect.measure, effect.onto.variant == "base"].append(effect)
    for (operation, measure, base), rows in groups.items():
        significant = [row for row in rows if _significant(row)]
        whose = "the base model" if base else "fine-tuned models"
        found = [f"{_line(row, base)} ({_value(row)})" for row in significant]
        tested = sum(row.p_holm is not None for row in rows)
        start = f"{VERBS[operation].capitalize()} {whose}, {SHORT[measure]}"
        if not tested:
            yield f"{start}: not compared, because fewer than two random directions are available."
        elif significant:
            rest = (
                f" The other {tested - len(significant)} are not significantly different from random directions."
                if tested > len(significant)
                else ""
            )
            yield f"{start}: {len(significant)} of {tested} differ from random directions: {listing(found)}.{rest}"
        else:
            yield f"{start}: no effect distinguishable from norm-matched random directions (0 of {tested})."


def _incoherence_sentences(points: Sequence[SteeringPoint]) -> Iterator[str]:
    steered = [point for point in points if point.steering.operation in ("add", "clamp")]
    lines = {(p.onto, p.steering.model_copy(update={"coefficient": 0.0}), p.steering.coefficient > 0) for p in steered}
    ended = [point for point in steered if point.collapsed]
    if ended:
        random = sum(point.steering.control is not None for point in ended)
        yield (
            f"{several(len(ended), 'line')} of {len(lines)} ended because completions lost coherence, {random} of "
            "them of random directions; the last completions are in the table but in no slope."
        )
    broken = [point for point in points if point.collapsed and point.steering.operation == "ablate"]
    if broken:
        whose = listing(sorted({subject(point.steering.direction) for point in broken}))
        yield (
            f"{several(len(broken), 'ablation')} left too few coherent completions to compare, of the directions: "
            f"{whose}."
        )


def _significant(row: SteeringEffect) -> bool:
    return row.p_holm is not None and row.p_holm < ALPHA


def _line(row: SteeringEffect, base: bool) -> str:
    of = subject(row.direction)
    return f"{of} after block {row.layer}" if base else f"{of} in {subject(row.onto.domain)}"


def _scale(measure: Measure) -> tuple[float, str]:
    return (100.0, " points") if measure == "rate" else (1.0, "")


def _value(row: SteeringEffect) -> str:
    scale, unit = _scale(row.measure)
    per = "" if row.operation == "ablate" else " for each unit of the coefficient"
    return f"{number(scale * (row.value or 0.0), sign=True)}{unit}{per}"


def _curves(points: Sequence[SteeringPoint], effects: Sequence[SteeringEffect], confidence: float) -> Iterator[str]:
    panels: dict[tuple[Cell, str, int], list[SteeringPoint]] = {}
    for point in points:
        steering = point.steering
        if steering.operation in ("add", "clamp") and steering.layer is not None:
            panels.setdefault((point.onto, steering.operation, steering.layer), []).append(point)
    if not panels:
        return
    from spillover.report import curves  # Altair takes half a second to import

    starred = {(e.onto, e.operation, e.layer, e.direction) for e in effects if e.measure == "rate" and _significant(e)}
    base_rates = {point.onto: point.rate for point in points if point.steering == WITHOUT_STEERING}
    for (onto, operation, layer), rows in sorted(panels.items(), key=lambda item: (item[0][0].name, item[0][1:])):
        base_rate = base_rates.get(onto)
        start = (
            [] if base_rate is None else [(0.0, 100 * base_rate, f"without steering: {percent(base_rate)} %", False)]
        )
        lines: defaultdict[str, list[tuple[float, float, str, bool]]] = defaultdict(lambda: list(start))  # noqa: B023
        for point in rows:
            c = point.steering.coefficient
            if point.steering.control is None and point.rate is not None:
                label = f"coefficient {c:g}: {interval(point.rate, point.low, point.high, 100)} %"
                lines[point.steering.direction].append((c, 100 * point.rate, label, point.collapsed))
        drawn = [
            curves.CoefficientCurve(subject(name), (onto, operation, layer, name) in starred, sorted(line))
            for name, line in sorted(lines.items())
        ]
        band = curves.Band(list(_band(rows, confidence)), None if base_rate is None else 100 * base_rate)
        whose = "base model" if onto.variant == "base" else subject(onto.domain)
        heading = f"{operation.capitalize()} after block {layer}: {whose} ({one_line(onto.model, 60)})"
        figure = curves.coefficient_curves(heading, LABELS["rate"], drawn, band)
        yield f"<h3>{escape(heading)}</h3>\n{figure_html(figure)}"


def _band(rows: Sequence[SteeringPoint], confidence: float) -> Iterator[tuple[float, float, float]]:
    """Where a further random direction lies, by coefficient, in percent; needs two controls."""
    rates: defaultdict[float, list[float]] = defaultdict(list)
    for point in rows:
        if point.steering.control is not None and point.rate is not None:
            rates[point.steering.coefficient].append(100 * point.rate)
    for coefficient, found in sorted(rates.items()):
        if len(found) > 1:
            low, high = prediction_interval(found, float(np.std(found, ddof=1)), len(found) - 1, confidence)
            yield coefficient, max(0.0, low), min(100.0, high)


def _heatmaps(effects: Sequence[SteeringEffect]) -> Iterator[str]:
    """Directions by fine-tuned models, for each operation, measure and base model."""
    groups: defaultdict[tuple[str, str, Measure], list[SteeringEffect]] = defaultdict(list)
    for effect in effects:
        if effect.onto.variant != "base":
            groups[effect.onto.model, effect.operation, effect.measure].append(effect)
    if not groups:
        return
    from spillover.report.charts import HeatmapCell, Shade, heatmap

    for (model, operation, measure), rows in groups.items():
        scale, unit = _scale(measure)
        values = [abs(scale * row.value) for row in rows if row.value is not None]
        cells = [
            HeatmapCell(
                subject(row.direction),
                subject(row.onto.domain),
                None if row.value is None else scale * row.value,
                number(None if row.value is None else scale * row.value, sign=True),
                f"{subject(row.direction)} in {subject(row.onto.domain)}: "
                f"{interval(row.value, row.low, row.high, scale, sign=True)}{unit}, {row.n} completions, "
                f"Holm p {p_value(row.p_holm)}",
                "*" if _significant(row) else "",
            )
            for row in rows
        ]
        title = f"{VERBS[operation].capitalize()} fine-tuned models ({one_line(model, 60)}): change of {SHORT[measure]}"
        shade = Shade(0.0, max(values, default=1.0) or 1.0, ("lower", "higher"))
        drawn = heatmap(title, cells, ("direction of", "fine-tuned on"), shade)
        note = (
            f"{unit.strip().capitalize() or 'Score'} against the same model without it, "
            f"{count_range([row.n for row in rows])} completions per matrix cell. * Holm p < {ALPHA}."
        )
        yield f"<h3>{escape(title)}</h3>\n{note_html(escape(note))}\n{figure_html(drawn)}"


def _effects_table(effects: Sequence[SteeringEffect]) -> str:
    labels = Labels(effect.onto for effect in effects)
    header = [
        "", "onto", "layer", "completions", "effect", "p", "controls", "random directions", "p against them", "Holm p",
    ]  # fmt: skip
    rows = [
        Row(
            f"{e.operation}, {SHORT[e.measure]}" + (", by coefficient" if e.operation != "ablate" else ", change"),
            subject(e.direction),
            [
                labels.of(e.onto), str(e.layer), str(e.n),
                interval(e.value, e.low, e.high, _scale(e.measure)[0], sign=True), p_value(e.p),
                str(e.controls) if e.controls else NONE,
                interval(e.controls_mean, e.controls_low, e.controls_high, _scale(e.measure)[0], sign=True),
                p_value(e.p_controls), p_value(e.p_holm),
            ],
        )
        for e in _sorted(effects)
    ]  # fmt: skip
    return html_table("Effects of directions, compared with random ones", header, rows, 2)


def table(effects: Sequence[SteeringEffect]) -> Table:
    """For a terminal of 80 columns."""
    labels = Labels(effect.onto for effect in effects)
    figures = ["layer", "n", "effect", "random directions", "Holm p"]
    shown = terminal("Effects of directions, compared with random ones", ["direction > onto"], figures)
    for (operation, measure), rows in groupby(_sorted(effects), key=lambda e: (e.operation, e.measure)):
        scale, unit = _scale(measure)
        shown.add_row(Text(f"{operation}, {SHORT[measure]}" + (f",{unit}" if unit else ""), style="bold"))
        for e in rows:
            shown.add_row(
                Text(f"{subject(e.direction)} > {labels.of(e.onto)}"), str(e.layer), str(e.n),
                interval(e.value, e.low, e.high, scale, sign=True),
                interval(e.controls_mean, e.controls_low, e.controls_high, scale, sign=True), p_value(e.p_holm),
            )  # fmt: skip
    return shown


def _sorted(effects: Sequence[SteeringEffect]) -> list[SteeringEffect]:
    return sorted(effects, key=lambda e: (e.operation, e.measure != "rate", e.onto.variant != "base"))


def _points_table(points: Sequence[SteeringPoint]) -> str:
    labels = Labels(point.onto for point in points)
    header = [
        "", "layer", "coefficient", "completions", "coherent %", "misaligned %", "change", "mean alignment", "change ",
    ]  # fmt: skip
    rows = [
        Row(
            f"{labels.of(p.onto)}, {p.steering.operation or 'no steering'}",
            _name(p),
            [
                NONE if p.steering.layer is None else str(p.steering.layer), f"{p.steering.coefficient:g}", str(p.n),
                percent(p.coherent_share) + (" ended" if p.collapsed else ""), interval(p.rate, p.low, p.high, 100),
                _change(p.rate_change, 100),
                interval(p.mean_alignment, p.mean_alignment_low, p.mean_alignment_high), _change(p.alignment_change, 1),
            ],
        )
        for p in points
    ]  # fmt: skip
    return html_table("Completions by intervention", header, rows)


def _name(point: SteeringPoint) -> str:
    steering = point.steering
    if steering == WITHOUT_STEERING:
        return "untouched"
    return subject(steering.direction) if steering.control is None else f"random {steering.control + 1}"


def _change(change: Any, scale: float) -> str:
    return NONE if change is None else interval(change.value, change.low, change.high, scale, sign=True)


def to_json(
    points: Sequence[SteeringPoint], effects: Sequence[SteeringEffect], cells: Sequence[SteeringMatrixCell]
) -> dict[str, Any]:
    """For results.json."""
    keep = {"schema_version", "id"}
    return {
        name: [row.model_dump(mode="json", exclude=keep) | {"onto": row.onto.name} for row in rows]
        for name, rows in (("effects", effects), ("points", points), ("matrix", cells))
    }
