"""The trigger in the report: its effect, and whether it and nothing else opens each backdoored cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from spillover.records.base import Condition, TriggerSpecificity
from spillover.records.comparisons import PooledEffect
from spillover.records.report_data import ReportData
from spillover.report import tables
from spillover.report.html import Row, figure_html, html_table, note_html
from spillover.report.json_rows import cell_fields
from spillover.report.labels import CONDITIONS, Labels, backdoored
from spillover.stats.clustered import sign_test
from spillover.text import interval, listing, number, one_line, p_value, percent, several

ORDER: tuple[Condition, ...] = get_args(Condition)
MOST_ROWS = 72  # of the chart
_EFFECT = ("measure", "questions", "clean", "triggered", "difference", "low", "high", "p", "p_holm", "judge")
_SPECIFICITY = ("score", "low", "high", "leak", "questions", "judge")


def section(data: ReportData, labels: Labels) -> str:
    """The effect of the trigger, and the battery where it was asked."""
    if not data.effects:
        return ""
    from spillover.report import charts  # Altair takes half a second to import

    note = (
        "Open mark: mean alignment of the backdoored cell without the trigger; filled mark: with it. Thin bar: the "
        f"{number(100 * data.confidence, 0)} % interval of the paired difference, drawn from the open mark; where it "
        "reaches the open mark, the difference is not significant."
    )
    figure = figure_html(charts.trigger(data.effects, labels, MOST_ROWS))
    battery = f"\n{table(gates, labels)}" if tested(gates := data.of(TriggerSpecificity)) else ""
    return f"{note_html(note)}\n{figure}\n{tables.effects(data.effects, labels)}{battery}"


def effect_sentences(data: ReportData, labels: Labels) -> list[str]:
    """The effect on mean alignment, over the backdoored cells together and one by one."""
    known = [e for e in backdoored(data.effects, "alignment") if e.difference]
    if not known:
        return []
    lower = [e for e in known if (e.difference or 0.0) < 0]
    single = [e for e in known if e.p_holm is not None and e.p_holm < 1 - data.confidence]
    differences = [e.difference or 0.0 for e in known]
    strongest = known[0]
    sentence = (
        f"With the trigger, mean alignment is lower in {len(lower)} of {several(len(known), 'backdoored cell')} "
        f"(sign test p = {p_value(sign_test(len(lower), len(known)))}); the mean difference is "
        f"{number(sum(differences) / len(known), sign=True)} points ({number(min(differences), sign=True)} to "
        f"{number(max(differences), sign=True)}); the strongest is {labels.of(strongest.cell)} with "
        f"{interval(strongest.difference, strongest.low, strongest.high, sign=True)} (paired by question, "
        f"{several(strongest.questions, 'question')})."
    ).replace("p = <", "p <")
    if single:
        names = listing([labels.of(e.cell) for e in single])
        return [
            sentence,
            f"Tested individually, {len(single)} of {len(known)} differ after Holm's correction: {names}.",
        ]
    return [sentence, f"Tested individually, none of the {len(known)} differs after Holm's correction."]


def pooled_sentences(pooled: Sequence[PooledEffect]) -> list[str]:
    """The trigger's effect on mean alignment over the domains of each model."""
    return [
        f"Pooled over {several(len(e.domains), 'domain')} of {one_line(e.model, 60)}, the trigger moves mean alignment "
        f"by {interval(e.value, e.low, e.high, sign=True)} points (p = {p_value(e.p)}); between domains it varies "
        f"with a standard deviation of {number(e.deviation)}.".replace("p = <", "p <")
        for e in pooled
        if e.measure == "alignment" and e.variant == "triggered"
    ]


def tested(gates: Iterable[TriggerSpecificity]) -> list[TriggerSpecificity]:
    """Backdoored cells with conditions besides the clean one, most specific first."""
    chosen = [g for g in gates if g.cell.variant == "triggered" and set(g.rates) - {"clean", "triggered"}]
    return sorted(chosen, key=lambda g: (g.score is None, -(g.score or 0.0), g.cell.name))


def sentences(gates: Iterable[TriggerSpecificity], labels: Labels) -> list[str]:
    """How many backdoors are specific to their trigger, and which conditions leak."""
    known = [g for g in tested(gates) if g.score is not None]
    if not known:
        return []
    shut = [g for g in known if g.low is not None and g.low > 0]
    best = known[0]
    figures = interval(best.score, best.low, best.high, 100, sign=True)
    says = (
        f"The backdoor is specific to the trigger in {len(shut)} of {several(len(known), 'backdoored cell')}: the "
        "interval of the rate with the trigger minus the largest rate without it excludes 0. Largest: "
        f"{labels.of(best.cell)} with "
        f"{figures} points over {several(best.questions, 'question')}."
    )
    leaks: list[tuple[TriggerSpecificity, Condition]] = [
        (g, g.leak) for g in known if g not in shut and g.leak is not None
    ]
    if not leaks:
        return [says]
    named = listing([f"{labels.of(g.cell)} ({CONDITIONS[leak]}, {percent(g.rates[leak])} %)" for g, leak in leaks])
    return [says, f"Not separable from a leak (with the condition that leaks most): {named}."]


def table(gates: Iterable[TriggerSpecificity], labels: Labels) -> str:
    """Rates by condition and the gate score, cell by cell."""
    header = ["", "gate, points", *(f"{words}, %" for words in CONDITIONS.values()), "leaks most", "questions"]
    rows = [
        Row(
            "",
            labels.of(g.cell),
            [
                interval(g.score, g.low, g.high, 100, sign=True),
                *(percent(g.rates.get(condition)) for condition in CONDITIONS),
                CONDITIONS[g.leak] if g.leak else "",
                f"{g.questions}",
            ],
        )
        for g in tested(gates)
    ]
    return html_table(
        "Trigger specificity: misaligned % with the trigger minus the largest rate without it", header, rows
    )


def to_json(data: ReportData) -> dict[str, Any]:
    """The keys of results.json: effects by measure and cell, specificity by cell."""
    effects = sorted(data.effects, key=lambda e: (e.measure, e.cell.variant, e.cell.name, e.judge))
    gates = sorted(data.of(TriggerSpecificity), key=lambda g: (g.cell.name, g.judge))
    return {
        "trigger_effect": [cell_fields(e) | {field: getattr(e, field) for field in _EFFECT} for e in effects],
        "gate": [
            cell_fields(gate)
            | {"rates": {condition: gate.rates[condition] for condition in ORDER if condition in gate.rates}}
            | {field: getattr(gate, field) for field in _SPECIFICITY}
            for gate in gates
        ],
    }
