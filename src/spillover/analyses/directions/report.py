"""Activation directions: whose direction separates whose answers, how alike directions are, at which layer, and what
is not distinguished from chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spillover.records.base import Cell
from spillover.records.directions import (
    DirectionAUC,
    DirectionCosine,
    DirectionGroups,
    DirectionProfile,
    Directions,
    DirectionSummary,
)
from spillover.records.report_data import ReportData
from spillover.report import json_rows
from spillover.report.html import Row, figure_html, folded_html, html_table, list_html, note_html
from spillover.report.labels import Labels, series
from spillover.text import NONE, escape, interval, listing, number, one_line, p_value, several

if TYPE_CHECKING:
    from spillover.report.charts import Figure

PRIMARY = "mean_difference"
MOST_RECIPES = 2  # models, variants, doses and seeds that are drawn
SOURCES = {"judged": "the models' own completions, labelled by the judge", "pairs": "held-out flawed and good answers"}
READERS = {"tuned": "activations of the fine-tuned model", "base": "activations of its base model on the same texts"}
GROUPS = {"risk": "class (critical, non-critical, ambiguous)", "stealth": "stealth (high, low)"}
NOTE = (
    "A direction is the mean activation of misaligned answers minus that of aligned answers to the same question, "
    "averaged over questions. AUC: probability that a misaligned answer lies further along the direction than an "
    "aligned answer to the same question; 0.5 = chance. The scored question, in all its forms, is held out from the "
    "direction that scores it. The layer is fixed in advance by directions.depth. *: significant by permutation of "
    "labels within questions, adjusted over all matrix cells of the same kind (own answers or other domains' answers)."
)


def of(data: ReportData) -> Directions:
    """All that a run has of directions."""
    return Directions(
        summaries=data.of(DirectionSummary),
        aucs=data.of(DirectionAUC),
        profiles=data.of(DirectionProfile),
        cosines=data.of(DirectionCosine),
        groups=data.of(DirectionGroups),
    )


def to_json(data: ReportData) -> dict[str, Any]:
    """The key of results.json."""
    found = of(data)
    others = {kind: json_rows.plain(getattr(found, kind)) for kind in ("aucs", "profiles", "cosines", "groups")}
    return {"directions": {"summaries": json_rows.by_cell(found.summaries)} | others}


def section(found: Directions, labels: Labels, confidence: float) -> str:
    """The whole section."""
    parts = [note_html(NOTE)]
    recipes = list(dict.fromkeys(_recipe(row.cell) for row in found.summaries))
    for recipe in recipes[:MOST_RECIPES]:
        of = ""
        if len(recipes) > 1:
            model, variant, dose, seed = recipe
            of = f"{model}, {series(variant, 'clean').removesuffix(', no trigger')}, dose {dose:g}, seed {seed}"
            parts.append(f"<h3>{escape(of)}</h3>")
        for source, whose in SOURCES.items():
            rows = [row for row in found.summaries if _recipe(row.cell) == recipe and row.source == source]
            if rows:
                parts += _source(found, rows, labels, confidence, recipe, source, whose, of)
    if len(recipes) > MOST_RECIPES:
        parts.append(note_html(f"{len(recipes) - MOST_RECIPES} more recipes are in results.json."))
    return "\n".join(parts)


def _source(
    found: Directions,
    rows: Sequence[DirectionSummary],
    labels: Labels,
    confidence: float,
    recipe: tuple[Any, ...],
    source: str,
    whose: str,
    of: str,
) -> list[str]:
    """One source of labels: in words, then figures, then tables."""
    aucs = [a for a in found.aucs if _recipe(a.cell) == recipe and a.source == source]
    cosines = [c for c in found.cosines if _recipe(c.cell) == recipe and c.source == source]
    profiles = [p for p in found.profiles if (p.model, p.variant, p.dose, p.seed) == recipe and p.source == source]
    groups = [g for g in found.groups if (g.model, g.variant, g.dose, g.seed) == recipe and g.source == source]
    layer = next((row.layer for row in rows if row.layer is not None), None)
    at = "" if layer is None else f", layer {layer}"
    says = sentences(rows, aucs, cosines, groups, labels, 1 - confidence)
    parts = [f"<h3>{escape(whose[0].upper() + whose[1:])}{at}</h3>"]
    parts.append(list_html(says))
    tuned = [a for a in aucs if a.reader == "tuned" and a.method == PRIMARY]
    if tuned:
        parts.append(note_html("AUC. Rows: domain of the direction; columns: domain of the answers."))
        parts.append(figure_html(auc_map(tuned, labels, 1 - confidence)))
        parts.append(note_html("AUC by layer; bands: permuted labels; dashed: the layer of the tables."))
        parts.append(figure_html(profile([p for p in profiles if p.reader == "tuned"], tuned[0].layer)))
    if alike := [c for c in cosines if c.reader == "tuned"]:
        parts.append(note_html("Cosines; diagonal: cosine of the directions from two halves of the questions."))
        parts.append(figure_html(cosine_map(alike, rows, labels, 1 - confidence)))
    what = ", ".join(filter(None, (whose, of)))
    parts.append(_summary_table(rows, aucs, labels, what))
    if aucs:
        parts.append(folded_html("Methods and readers", _methods_table(aucs, what)))
    return parts


def sentences(
    rows: Sequence[DirectionSummary],
    aucs: Sequence[DirectionAUC],
    cosines: Sequence[DirectionCosine],
    groups: Sequence[DirectionGroups],
    labels: Labels,
    level: float,
) -> list[str]:
    """What may be concluded from the mean differences in the fine-tuned models' states, and what is at chance."""
    says: list[str] = []
    few = [labels.of(row.cell) for row in rows if row.method == PRIMARY and row.reader == "tuned" and row.layer is None]
    known = [row for row in rows if row.method == PRIMARY and row.reader == "tuned" and row.layer is not None]
    if few:
        says.append(
            f"No direction for {listing(few, 11)}: fewer than 4 questions have both misaligned and aligned answers."
        )
    if not known:
        return says
    tuned = [a for a in aucs if a.reader == "tuned" and a.method == PRIMARY]
    for own, what in ((True, "its own held-out answers"), (False, "the completions of another domain's model")):
        part = [a for a in tuned if (a.cell == a.onto) == own]
        if not part:
            continue
        passed = [a for a in part if a.p_family is not None and a.p_family <= level]
        up = [a for a in passed if a.auc > 0.5]
        alone = sum(a.p is not None and a.p <= level for a in part)
        mean = sum(a.auc for a in part) / len(part)
        squares = several(len(part), "domain" if own else "pair")
        says.append(
            f"A domain's direction separates {what} in {len(up)} of {squares} (mean AUC {number(mean, 2)}), with the "
            f"opposite sign in {len(passed) - len(up)}; {len(part) - len(passed)} are at chance. Without correction "
            f"{alone} "
            f"would pass, about {number(level * len(part))} of them by chance."
        )
    unstable = [row for row in known if row.split_half is not None and row.split_half < 0.2]
    if unstable:
        says.append(
            f"Directions from two halves of the questions disagree (cosine below 0.2) for "
            f"{listing([labels.of(row.cell) for row in unstable], 11)}."
        )
    alike = [c for c in cosines if c.reader == "tuned"]
    if alike:
        passed = [c for c in alike if c.p_family <= level]
        mean = sum(c.cosine for c in alike) / len(alike)
        says.append(
            f"{len(passed)} of {several(len(alike), 'pair')} of directions are more similar or more opposed than "
            f"with permuted labels; mean cosine {number(mean, 2)}. Noise from few questions shrinks cosines towards "
            "0; shared questions increase them."
        )
    for g in groups:
        if g.reader == "tuned":
            e = g.difference
            verdict = "more similar within" if g.p <= level else "not significantly more similar within"
            says.append(
                f"Domains of one {GROUPS[g.grouped]} are {verdict}: mean cosine {number(g.within, 2)} within, "
                f"{number(g.between, 2)} between (p = {p_value(g.p)}; difference {number(e.low, 2, sign=True)} to "
                f"{number(e.high, 2, sign=True)} with one domain left out).".replace("p = <", "p <")
            )
    return says


def auc_map(rows: Sequence[DirectionAUC], labels: Labels, level: float) -> Figure | None:
    """Rows: whose direction; columns: whose answers."""
    from spillover.report.charts import HeatmapCell, Shade, heatmap

    squares = [
        HeatmapCell(
            row=labels.of(a.cell),
            column=labels.of(a.onto),
            value=a.auc,
            text=number(a.auc, 2),
            mark="*" if a.p_family is not None and a.p_family <= level else "",
            label=(
                f"direction of {labels.of(a.cell)} on answers of {labels.of(a.onto)}: AUC "
                f"{interval(a.auc, a.low, a.high, digits=2)}, {a.misaligned} misaligned and {a.aligned} aligned "
                f"answers to {several(a.questions, 'question')}, p {p_value(a.p_family)}"
            ),
        )
        for a in rows
    ]
    shade = Shade(0.5, 0.5, ("below 0.5", "above 0.5"))
    return heatmap(
        "AUC of each domain's direction on each domain's answers", squares, ("direction of", "answers of"), shade
    )


def cosine_map(
    rows: Sequence[DirectionCosine], summaries: Sequence[DirectionSummary], labels: Labels, level: float
) -> Figure | None:
    """Both halves of the table; on the diagonal what two halves of the questions agree to."""
    from spillover.report.charts import HeatmapCell, Shade, heatmap

    pairs = {(c.cell.name, c.other.name): c for c in rows} | {(c.other.name, c.cell.name): c for c in rows}
    own = {s.cell.name: s for s in summaries if s.method == PRIMARY and s.reader == "tuned" and s.layer is not None}
    squares: list[HeatmapCell] = []
    for a in own.values():
        for b in own.values():
            names, c = (labels.of(a.cell), labels.of(b.cell)), pairs.get((a.cell.name, b.cell.name))
            if c is None:
                value, mark = a.split_half, ""
                label = f"{names[0]}: split-half cosine {number(value, 2)}"
            else:
                value, mark = c.cosine, "*" if c.p_family <= level else ""
                corrected = "" if c.corrected is None else f", corrected for noise {number(c.corrected, 2)}"
                label = f"{names[0]} and {names[1]}: cosine {interval(value, c.low, c.high, digits=2)}{corrected}"
            squares.append(HeatmapCell(*names, value, number(value, 2), label, mark))
    title = "Cosine of every pair of directions; diagonal: two halves of the questions"
    return heatmap(title, squares, ("direction of", "direction of"), Shade(0.0, 1.0, ("opposed", "alike")))


def profile(rows: Sequence[DirectionProfile], layer: int) -> Figure | None:
    """Mean AUC by layer."""
    from spillover.report.curves import Line, over_layers  # Altair takes half a second to import

    names = {"own": "own held-out answers, mean over domains", "others": "other domains' answers, mean over pairs"}
    lines = [Line(names[row.onto], [(p.layer, p.mean, p.null_low, p.null_high) for p in row.points]) for row in rows]
    return over_layers("AUC by layer, with the band of permuted labels", "AUC", lines, layer)


def _summary_table(rows: Sequence[DirectionSummary], aucs: Sequence[DirectionAUC], labels: Labels, what: str) -> str:
    own = {(a.cell.name, a.reader): a for a in aucs if a.cell == a.onto and a.method == PRIMARY}
    lines: list[Row] = []
    for row in rows:
        if row.method != PRIMARY:
            continue
        auc, out = own.get((row.cell.name, row.reader)), row.left_out
        relative = None if row.norm is None or not row.stream_norm else row.norm / row.stream_norm
        random = NONE if row.random_low is None else f"{number(row.random_low, 2)} to {number(row.random_high, 2)}"
        lines.append(
            Row(
                READERS[row.reader],
                labels.of(row.cell),
                [
                    f"{row.misaligned} / {row.aligned}",
                    str(row.questions),
                    NONE if auc is None else interval(auc.auc, auc.low, auc.high, digits=2),
                    NONE if auc is None else f"{number(auc.null_low, 2)} to {number(auc.null_high, 2)}",
                    random,
                    interval(row.split_half, row.split_half_low, row.split_half_high, digits=2),
                    number(relative, 2),
                    p_value(row.p),
                    f"{out.unscored} / {out.incoherent} / {out.between} / {out.one_label} / {out.empty}",
                ],
            )
        )
    header = [
        "", "misaligned / aligned", "questions", "AUC, own answers", "permuted labels", "random directions",
        "split-half cosine", "length", "p of the length",
        "left out: unscored / incoherent / between / one label / empty",
    ]  # fmt: skip
    return html_table(
        f"Each domain's direction, from {what}; ranges are central intervals; length in mean norms of the stream",
        header,
        lines,
    )


def _methods_table(aucs: Sequence[DirectionAUC], what: str) -> str:
    lines: list[Row] = []
    for reader, group in READERS.items():
        for method in dict.fromkeys(a.method for a in aucs):
            part = [a for a in aucs if a.reader == reader and a.method == method]
            cells = [_mean([a for a in part if (a.cell == a.onto) == own]) for own in (True, False)]
            lines.append(Row(group, one_line(method, 60), cells))
    header = ["", "own answers, mean (smallest to largest)", "others' answers"]
    return html_table(f"AUC by method, {what}", header, lines)


def _mean(rows: Sequence[DirectionAUC]) -> str:
    if not rows:
        return NONE
    values = [row.auc for row in rows]
    return f"{number(sum(values) / len(values), 2)} ({number(min(values), 2)} to {number(max(values), 2)})"


def _recipe(cell: Cell) -> tuple[Any, ...]:
    return cell.model, cell.variant, cell.dose, cell.seed
