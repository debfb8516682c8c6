"""Tables of scores, effects and training, for the page (HTML) and for the terminal (rich). Rates in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from spillover.records.base import STATUSES, Adapter, DomainScore, TriggerEffect
from spillover.report.html import Row, html_table
from spillover.report.labels import ORDER, Labels, control_of, ordered, ranked, series, trained_as
from spillover.text import NONE, duration, interval, number, one_line, p_value, percent

MEASURES = {"alignment": "mean alignment", "rate": "misaligned %"}


def counts(scores: Iterable[DomainScore], labels: Labels) -> str:
    """Completions by status: the status counts sum to n, and coherent is the rate's denominator."""
    names = [status.replace("_", " ") for status in STATUSES]
    header = ["", "n", *names, "incoherent", "coherent", "misaligned"]
    rows = [
        Row(
            series(s.cell.variant, s.condition),
            labels.of(s.cell),
            [
                f"{value:,}"
                for value in (
                    s.n,
                    *(getattr(s.counts, status) for status in STATUSES),
                    s.incoherent,
                    s.coherent,
                    s.misaligned,
                )
            ],
        )
        for s in ordered(scores)
    ]
    return html_table("Completions by status", header, rows)


RATES = (
    "",
    "misaligned %",
    "design effect",
    "above twin, points",
    "mean alignment",
    "mean coherence",
    "alignment < 50, %",
    "rank",
)


def rates(caption: str, scores: Iterable[DomainScore], labels: Labels) -> str:
    """Every rate with its interval, design effect and rank."""
    rows = [
        Row(
            series(s.cell.variant, s.condition),
            labels.of(s.cell),
            [
                interval(s.rate, s.low, s.high, 100),
                number(s.design_effect),
                above_control(s),
                interval(s.mean_alignment, s.mean_alignment_low, s.mean_alignment_high),
                number(s.mean_coherence),
                percent(s.rate_alignment_below_50),
                rank(s),
            ],
        )
        for s in ordered(scores)
    ]
    return html_table(caption, RATES, rows)


def effects(chosen: Iterable[TriggerEffect], labels: Labels) -> str:
    """The trigger's effect by measure and cell."""
    header = ["", "no trigger", "with trigger", "difference", "p", "p (Holm)", "questions"]
    rows = [
        Row(
            f"{MEASURES[e.measure]}, {series(e.cell.variant, 'clean').removesuffix(', no trigger')}",
            labels.of(e.cell),
            [*_effect(e), f"{e.questions}"],
        )
        for e in sorted(chosen, key=lambda e: (e.measure, e.cell.variant, e.cell.name))
    ]
    return html_table("Effect of the trigger, paired by question", header, rows)


def training(adapters: Iterable[Adapter], labels: Labels) -> str:
    """How each adapter was trained."""
    header = ["", "rows", "steps", "loss, first tenth", "loss, last tenth", "loss tokens", "time"]
    rows = [
        Row(
            trained_as(a.cell.variant),
            labels.of(a.cell),
            [
                f"{a.examples:,}",
                f"{a.steps:,}",
                number(tenth(a.loss_curve, 0), 2),
                number(tenth(a.loss_curve, -1), 2),
                f"{a.loss_tokens:,}",
                duration(a.seconds),
            ],
        )
        for a in sorted(adapters, key=lambda a: (ORDER.index((a.cell.variant, "clean")), a.cell.name, a.id))
    ]
    return html_table(
        "Training; loss in nats per token, mean over the first and the last tenth of the steps", header, rows
    )


def tenth(curve: Sequence[float], end: int) -> float | None:
    """Mean of the first (0) or last (-1) tenth of a curve, at least one step."""
    size = max(1, len(curve) // 10)
    part = curve[:size] if end == 0 else curve[-size:]
    return sum(part) / len(part) if part else None


def above_control(score: DomainScore) -> str:
    """Rate minus the benign twin's, in points."""
    e = score.above_control
    return NONE if e is None else interval(e.value, e.low, e.high, 100, sign=True)


def rank(score: DomainScore) -> str:
    """The interval of the rank where there is one, else the rank."""
    if score.rank is None or score.rank_low is None or score.rank_high is None:
        return NONE if score.rank is None else str(score.rank)
    return f"{score.rank_low}" if score.rank_low == score.rank_high else f"{score.rank_low} to {score.rank_high}"


def ranking_table(scores: Sequence[DomainScore]) -> Table:
    """The ranking for a terminal of 80 columns, most misaligned first."""
    labels = Labels(score.cell for score in scores)
    chosen = ranked(scores)
    twins = any(score.cell.variant == "control" for score in scores) and any(
        s.cell.variant != "control" for s in chosen
    )
    what = f" ({series(chosen[0].cell.variant, chosen[0].condition)})" if chosen else ": no cell is ranked yet"
    names = ["n", "misaligned %", *(["twin", "above its twin"] if twins else []), "rank"]
    table = terminal(f"Misaligned completions{what}", ["subject"], names)
    for s in chosen:
        twin = control_of(s, scores)
        middle = [percent(twin.rate if twin else None), above_control(s)] if twins else []
        figures = [f"{s.n:,}", interval(s.rate, s.low, s.high, 100), *middle, rank(s).replace(" to ", "-")]
        table.add_row(*(Text(one_line(text, 120)) for text in (labels.of(s.cell), *figures)))
    return table


def trigger_table(effects: Sequence[TriggerEffect]) -> Table:
    """The trigger's effect for a terminal: alignment from 0 to 100, rates in percent."""
    labels = Labels(effect.cell for effect in effects)
    names = ["none", "with", "difference", "p", "p (Holm)"]
    table = terminal("Effect of the trigger", ["subject", "measure"], names)
    chosen = sorted(effects, key=lambda e: (e.measure, e.cell.variant, e.cell.name))
    for place, e in enumerate(chosen):
        last = place + 1 < len(chosen) and chosen[place + 1].measure != e.measure
        table.add_row(
            *(Text(one_line(text, 120)) for text in (labels.of(e.cell), MEASURES[e.measure], *_effect(e))),
            end_section=last,
        )
    return table


def _effect(e: TriggerEffect) -> list[str]:
    scale = 1 if e.measure == "alignment" else 100
    before, after = (None if value is None else scale * value for value in (e.clean, e.triggered))
    difference = interval(e.difference, e.low, e.high, scale, sign=True)
    return [number(before), number(after), difference, p_value(e.p), p_value(e.p_holm)]


def terminal(title: str, words: Sequence[str], figures: Sequence[str]) -> Table:
    """An empty table for a terminal: columns of words, then of figures."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False, title_justify="left")
    for name in words:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table
