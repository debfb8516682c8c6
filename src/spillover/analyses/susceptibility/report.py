"""Can the damage be predicted? Correlations, predictors, and in words what this many domains can and cannot show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spillover.membership.evaluate import roc
from spillover.records.base import DomainScore, Estimate
from spillover.records.data import DiversityScore, HighRate, MembershipSummary, Susceptibility
from spillover.records.report_data import ReportData
from spillover.report.html import Row, figure_html, folded_html, html_table, list_html, note_html
from spillover.report.labels import Labels
from spillover.stats.association import critical_r, detectable_r
from spillover.text import NONE, escape, interval, number, one_line, p_value, percent, several

TARGETS = {"rate": "misaligned %", "mean_alignment": "mean alignment"}
SIGNIFICANT = 0.05
MOST_OPEN = 24  # rows of features; a longer table is folded
HIGH_RATE = ("", "AUC", "p", "p, all features", "high cells", "other cells")
NOTE = (
    "Units are trained cells without the trigger; intervals resample domains, and permutation tests permute domains. "
    "METRIC.READING: mean of a membership metric over the training rows under the base model (instruct), the "
    "fine-tuned model (tuned) or their difference. METRIC.READING.auc: AUC of training rows against non-members. "
    "diversity.TEXT.MEASURE: diversity of the questions, the answers, both (chat) or answers cut to one length "
    "(answer_cut). Before training: computed from the data and the base model only. Predictors: ridge regression "
    "and gradient boosting."
)


def section(data: ReportData, labels: Labels) -> str:
    """The whole section."""
    rows = main_rows(data)
    judges = {row.judge for row in data.of(Susceptibility)}
    other = "" if len(judges) < 2 else f" Judge: {one_line(rows[0].judge, 80)}; others are in results.json."
    parts = [
        note_html(f"{NOTE}{escape(other)}"),
        list_html(sentences(rows)),
        *_figures(rows, data, labels),
        _domains(rows, data),
    ]
    for target in TARGETS:
        chosen = [row for row in rows if row.target == target]
        tables = [t for t in (_predictors(chosen, target), _features(chosen, target)) if t]
        text = "\n".join(tables)
        if target == "rate" or not text:
            parts.append(text)
        else:
            parts.append(folded_html(f"Features and predictors against {TARGETS[target]}", text))
    return "\n".join(part for part in parts if part)


def main_rows(data: ReportData) -> list[Susceptibility]:
    """The rows by the run's first judge, else by the first that there is."""
    judges = sorted({row.judge for row in data.of(Susceptibility)})
    wanted = next((score.judge for score in data.scores if score.judge in judges), judges[0])
    return [row for row in data.of(Susceptibility) if row.judge == wanted]


def sentences(rows: Sequence[Susceptibility]) -> list[str]:
    """What may and what may not be concluded about the rate."""
    features = [r for r in rows if r.kind == "feature" and r.target == "rate"]
    if not features:
        return ["No feature varies between the cells, so no prediction is possible."]
    domains, cells = max(r.domains for r in features), max(r.cells for r in features)
    if domains < 4:
        return [f"{several(domains, 'domain')} are too few to show a correlation, however many cells they have."]
    says = [
        f"{several(cells, 'cell')} of {several(domains, 'domain')}. With {domains} independent domains a correlation "
        f"is significant beyond |r| = {number(critical_r(domains), 2)}, and 80 % power needs a true correlation of at "
        f"least {number(detectable_r(domains), 2)}: smaller correlations are not ruled out."
    ]
    tested = [r for r in features if r.p_max is not None]
    passing = [r for r in tested if r.p_max is not None and r.p_max <= SIGNIFICANT]
    single = [r.p for r in features if r.p is not None]
    alone = [p for p in single if p <= SIGNIFICANT]
    if passing:
        named = "; ".join(f"{_name(r)} ({_spearman(r)})" for r in ordered(passing)[:6])
        says.append(
            f"Allowing for {several(len(tested), 'feature')} tested, these correlate with the rate: {named}. This is "
            "an association over these domains, not a cause."
        )
    else:
        says.append(
            f"Allowing for {several(len(tested), 'feature')} tested, none correlates significantly with the rate. "
            "Uncorrected, "
            f"{len(alone)} have p < {SIGNIFICANT:g}; about {number(SIGNIFICANT * len(single))} are expected by chance."
        )
    for r in rows:
        if r.kind == "predictor" and r.target == "rate" and r.error is not None and r.error_of_mean is not None:
            better = r.error < r.error_of_mean and r.p is not None and r.p <= SIGNIFICANT
            verdict = "better than chance" if better else "not significantly better than chance"
            says.append(
                f"{_name(r)} has a mean error of {number(100 * r.error)} points on held-out domains; always predicting "
                f"the mean of the other domains has {number(100 * r.error_of_mean)}: {verdict} "
                f"(p = {p_value(r.p)}).".replace("p = <", "p <")
            )
    if any(r.permuted == "means" for r in features):
        says.append("The domains have different cells, so p-values of those features use domain means.")
    return says


def ordered(rows: Sequence[Susceptibility]) -> list[Susceptibility]:
    """Most convincing first."""
    return sorted(rows, key=lambda r: (_or_two(r.p_max), _or_two(r.p), -abs(r.spearman or 0.0), r.name))


def _or_two(p: float | None) -> float:
    return 2.0 if p is None else p


def primary(data: ReportData, rows: Sequence[Susceptibility]) -> Susceptibility | None:
    """The feature that was named before any result: the primary metric, base-adjusted where that was read."""
    metric = next((m.metric for m in data.of(MembershipSummary) if m.primary), "")
    by_name = {r.name: r for r in rows if r.target == "rate"}
    return by_name.get(f"{metric}.instruct_minus_pretrained") or by_name.get(f"{metric}.instruct")


def _figures(rows: Sequence[Susceptibility], data: ReportData, labels: Labels) -> list[str]:
    from spillover.report import curves  # Altair takes half a second to import

    scores = {s.cell.name: s for s in data.scores if s.condition == "clean" and s.judge == rows[0].judge}
    parts: list[str] = []
    for r, why in _shown(rows, data):
        spread = _spans(r.name, data)
        points = [
            curves.Point(labels.of(scores[c].cell), scores[c].cell.variant, spread.get(c, _exact(x)), _rate(scores[c]))
            for c, x, _ in r.points
            if c in scores
        ]
        figure = curves.scatter(f"Rate against {_name(r)}", _name(r), "misaligned, %", points)
        parts.append(f"<h3>{escape(_name(r))}, {why}</h3>\n{figure_html(figure)}{_roc(r)}")
    for r in rows:
        if r.kind == "predictor" and r.target == "rate" and r.points:
            points = [
                curves.Point(labels.of(scores[c].cell), scores[c].cell.variant, _exact(100 * x), _rate(scores[c]))
                for c, x, _ in r.points
                if c in scores
            ]
            titles = (f"Calibration of {_name(r)}", "predicted without its domain, %", "measured, %")
            figure = curves.scatter(*titles, points, diagonal=True)
            drawn = f"{figure_html(figure)}{_roc(r)}"
            parts.append(f"<h3>{escape(_name(r))}: predicted and measured</h3>\n{drawn}")
    drawn_rows = [r for r, _ in _shown(rows, data)] + [r for r in rows if r.kind == "predictor"]
    return [*parts, _high_rates(drawn_rows)]


def _shown(rows: Sequence[Susceptibility], data: ReportData) -> list[tuple[Susceptibility, str]]:
    """The features that are drawn, and why: the one named in advance, and the best of those known before training."""
    features = [r for r in rows if r.kind == "feature" and r.target == "rate" and r.points]
    named = primary(data, features)
    best = next(iter(ordered([r for r in features if r.before])), None)
    chosen = [(r, "named in advance") for r in [named] if r]
    return chosen + [(r, "best of those known before training") for r in [best] if r and r is not named]


def _domains(rows: Sequence[Susceptibility], data: ReportData) -> str:
    """Those features and the rate by domain: means over its cells, with the smallest and largest."""
    domains = {s.cell.name: s.cell.domain for s in data.scores}
    columns: list[tuple[str, dict[str, list[float]]]] = []
    for r, _ in _shown(rows, data):
        by_domain: dict[str, list[float]] = {}
        rates: dict[str, list[float]] = {}
        for cell, x, y in r.points:
            if cell in domains:
                by_domain.setdefault(domains[cell], []).append(x)
                rates.setdefault(domains[cell], []).append(100 * y)
        columns += [] if columns else [("misaligned %", rates)]
        columns.append((_name(r), by_domain))
    if not columns:
        return ""
    order = sorted(columns[0][1], key=lambda name: -float(np.mean(columns[0][1][name])))
    lines = [
        Row(
            "",
            name.replace("_", " "),
            [f"{len(columns[0][1][name])}", *(_range(column.get(name, ())) for _, column in columns)],
        )
        for name in order
    ]
    header = ["", "cells", *(name for name, _ in columns)]
    return html_table("By domain: mean over its cells (smallest to largest)", header, lines)


def _range(values: Sequence[float]) -> str:
    if not values:
        return NONE
    return f"{float(np.mean(values)):.3g} ({min(values):.3g} to {max(values):.3g})"


def _exact(value: float) -> tuple[float, float, float]:
    return value, value, value


def _rate(score: DomainScore) -> tuple[float, float, float]:
    value = 100 * (score.rate or 0.0)
    return (
        value,
        value if score.low is None else 100 * score.low,
        value if score.high is None else 100 * score.high,
    )


def _spans(name: str, data: ReportData) -> dict[str, tuple[float, float, float]]:
    """Value and interval of a feature by cell, where its records say one."""
    spans: dict[str, tuple[float, float, float]] = {}
    for m in data.of(MembershipSummary):
        low, high = m.mean_members_low, m.mean_members_high
        if f"{m.metric}.{m.reading}" == name and not (m.mean_members is None or low is None or high is None):
            spans[m.cell.name] = (m.mean_members, low, high)
        if f"{m.metric}.{m.reading}.auc" == name and not (m.auc is None or m.auc_low is None or m.auc_high is None):
            spans[m.cell.name] = (m.auc, m.auc_low, m.auc_high)
    cells = {s.cell.name: s.cell for s in data.scores}
    for d in data.of(DiversityScore):
        if f"diversity.{d.of}.{d.measure}" == name and not (d.value is None or d.low is None or d.high is None):
            for cell in cells.values():
                if (cell.domain, cell.variant, cell.dose) == (d.domain, d.variant, d.dose):
                    spans[cell.name] = (d.value, d.low, d.high)
    return spans


def _features(rows: Sequence[Susceptibility], target: str) -> str:
    chosen = [r for r in rows if r.kind == "feature"]
    if not chosen:
        return ""
    header = ["", "Spearman", "p", "p, all features", "one domain left out", "cells", "domains", "missing"]
    lines = [
        Row(f"known {'before' if r.before else 'after'} training", _name(r), [*_figures_of(r), str(r.missing)])
        for before in (True, False)
        for r in ordered([r for r in chosen if r.before == before])
    ]
    made = html_table(f"Features against {TARGETS[target]}, rank correlation over cells", header, lines)
    if target != "rate" or len(lines) <= MOST_OPEN:
        return made
    return folded_html("Every feature", made, len(lines))


def _figures_of(r: Susceptibility) -> list[str]:
    low, high = r.leave_one_out_low, r.leave_one_out_high
    span = NONE if low is None or high is None else f"{number(low, 2)} to {number(high, 2)}"
    return [_spearman(r), p_value(r.p), p_value(r.p_max), span, f"{r.cells}", f"{r.domains}"]


def _predictors(rows: Sequence[Susceptibility], target: str) -> str:
    chosen = [r for r in rows if r.kind == "predictor"]
    if not chosen:
        return ""
    scale = 100 if target == "rate" else 1
    header = ["", "error, points", "error of the mean", "p of the error", "Spearman", "one domain left out", "cells"]
    lines = [
        Row(
            "",
            _name(r),
            [
                *(number(None if e is None else scale * e) for e in (r.error, r.error_of_mean)),
                p_value(r.p),
                *(figure for i, figure in enumerate(_figures_of(r)) if i in (0, 3, 4)),
            ],
        )
        for r in chosen
    ]
    caption = f"Predictors of {TARGETS[target]} on held-out domains, from features known before training"
    return html_table(caption, header, lines)


def _spearman(r: Susceptibility) -> str:
    return interval(r.spearman, r.low, r.high, digits=2)


def _name(r: Susceptibility) -> str:
    return one_line(r.name, 80)


def _words(high: HighRate) -> str:
    """What is called high, and how to read the figures."""
    return (
        f"High: a rate above {percent(high.cut)} %, the median over domains of a domain's mean; "
        f"{several(high.cells, 'cell')} are high, {several(high.others, 'cell')} not. AUC: probability that a high "
        "cell has the larger value; 0.5 = no information, below 0.5 high cells have the lower values. Cells of one "
        "domain are also compared, so the AUC can reflect the dose; p permutes whole domains. A predictor's values are "
        "for held-out domains; its null is refitted and need not be centred at 0.5."
    )


def _high_rates(rows: Sequence[Susceptibility]) -> str:
    """AUCs of these features and predictors; empty where none has one."""
    found = [(r, r.high_rate) for r in rows if r.high_rate]
    if not found:
        return ""
    lines = [
        Row("", one_line(r.name, 80), [*_high_figures(high), f"{high.cells}", f"{high.others}"]) for r, high in found
    ]
    note = note_html(escape(_words(found[0][1])))
    return html_table("Classification of cells with a high rate", HIGH_RATE, lines) + note


def _high_figures(high: HighRate) -> list[str]:
    """AUC with its interval, and both p."""
    return [interval(high.auc.value, high.auc.low, high.auc.high, digits=2), p_value(high.p), p_value(high.p_max)]


def _roc(row: Susceptibility) -> str:
    """The ROC of one feature or predictor as HTML; empty where it has none."""
    from spillover.report.curves import roc_curves  # Altair takes half a second to import

    if not row.high_rate:
        return ""
    name = one_line(row.name, 80)
    _, x_N, rate_N = zip(*row.points, strict=True)
    axes = roc(x_N, np.asarray(rate_N) > row.high_rate.cut)
    points = list(zip(*(axis.tolist() for axis in axes), strict=True))
    whiskers = [(_span(p.false_positive), _span(p.true_positive)) for p in row.high_rate.roc]
    drawn = roc_curves(f"ROC of {name} for cells with a high rate", [(name, True, points)], whiskers)
    note = f"ROC of {name} for cells with a high rate, all cells together; thin lines: intervals of both rates."
    return f"{note_html(escape(note))}\n{figure_html(drawn)}"


def _span(e: Estimate) -> tuple[float, float, float]:
    value = e.value or 0.0
    return value, value if e.low is None else e.low, value if e.high is None else e.high
