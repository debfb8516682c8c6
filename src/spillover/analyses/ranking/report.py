"""How cells stand to one another: orders, seeds, budgets, pooled effects and thresholds, for page and terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spillover.records.base import DomainScore
from spillover.records.comparisons import (
    Comparisons,
    Matrix,
    Order,
    PooledEffect,
    Recipe,
    SeedScore,
    Thresholds,
    VarianceBudget,
)
from spillover.report.html import Row, folded_html, html_table, note_html
from spillover.report.labels import Labels, ordered, ranked, series, subject
from spillover.report.tables import MEASURES
from spillover.text import NONE, interval, listing, number, one_line, p_value, percent, several

MOST_PAIRS = 12  # undecided neighbours named in words


def order_sentences(order: Order, names: Sequence[str], confidence: float) -> list[str]:
    """Which order the data support, and which they do not, in words; `names` of the cells, as in the order."""
    cells, level = len(names), 1 - confidence
    pairs = [(a, b) for a in range(cells) for b in range(a + 1, cells)]
    significant = [(a, b) for a, b in pairs if (p := order.p[a][b]) is not None and p <= level]
    if not significant:
        return [
            f"No order among the {cells} is supported: none of {several(len(pairs), 'pair')} differs significantly."
        ]
    verb = "differs" if len(significant) == 1 else "differ"
    says = [
        f"{len(significant)} of {several(len(pairs), 'pair')} {verb} significantly (all pairs, Tukey's range test)."
    ]
    for a in range(cells):
        below = [names[b] for x, b in significant if x == a]
        if below:
            says.append(f"{names[a]} is above {listing(below, cells)}.")
    open_pairs = [(a, a + 1) for a in range(cells - 1) if (a, a + 1) not in set(significant)]
    if open_pairs:
        shown = [f"{names[a]} or {names[b]} (P = {number(order.above[a][b], 2)})" for a, b in open_pairs[:MOST_PAIRS]]
        rest = f", and {len(open_pairs) - MOST_PAIRS} more" if len(open_pairs) > MOST_PAIRS else ""
        says.append(f"Adjacent cells that are not significantly different: {'; '.join(shown)}{rest}.")
    return says


def main_order(comparisons: Comparisons, scores: Sequence[DomainScore]) -> tuple[Order, list[str]] | None:
    """The order of the cells that make the ranking, with their labels."""
    chosen = ranked(scores)
    if not chosen:
        return None
    labels = Labels(score.cell for score in scores)
    names = {score.cell.name: labels.of(score.cell) for score in chosen}
    main_series = (chosen[0].cell.variant, chosen[0].condition)
    order = next((o for o in comparisons.orders if (o.variant, o.condition) == main_series), None)
    return (order, [names.get(cell, one_line(cell, 80)) for cell in order.cells]) if order else None


def section(comparisons: Comparisons, scores: Sequence[DomainScore], thresholds: tuple[float, float]) -> str:
    """Every table of it for the page; empty where nothing can be compared."""
    parts: list[str] = []
    if order := main_order(comparisons, scores):
        parts.append(_order_table(*order))
    if comparisons.pooled:
        parts.append(_pooled_table(comparisons.pooled))
    if comparisons.seeds:
        parts.append(_seed_table(comparisons.seeds))
    if comparisons.budgets:
        parts.append(_budget_table(comparisons.budgets, ordered(scores)))
    if comparisons.thresholds:
        parts.append(_threshold_tables(comparisons.thresholds, thresholds))
    return "\n".join(parts)


def _order_table(order: Order, names: list[str]) -> str:
    rows = [
        Row("", names[a], [NONE if a == b else percent(order.above[a][b]) for b in range(len(names))])
        for a in range(len(names))
    ]
    caption = "Probability (%) that the row's rate is above the column's, by pair; 50 = no information"
    return html_table(caption, ["", *names], rows)


def _pooled_table(pooled: Sequence[PooledEffect]) -> str:
    header = ["", "measured", "partially pooled"]
    rows: list[Row] = []
    for e in pooled:
        scale = 1 if e.measure == "alignment" else 100
        group = (
            f"{MEASURES[e.measure]}, {series(e.variant, 'clean').removesuffix(', no trigger')}, {one_line(e.model, 60)}"
        )
        common = interval(e.value, e.low, e.high, scale, sign=True)
        rows.append(Row(group, f"all {len(e.domains)} domains (p {p_value(e.p)})", [NONE, common]))
        rows += [
            Row(
                group,
                subject(d.domain),
                [number(scale * d.measured, sign=True), interval(d.value, d.low, d.high, scale, sign=True)],
            )
            for d in e.domains
        ]
    return html_table("Effect of the trigger, pooled over domains", header, rows)


def _recipe(recipe: Recipe) -> str:
    dose = f", dose {recipe.dose:g}" if recipe.dose not in (0.0, 1.0) else ""
    return f"{one_line(recipe.model, 60)} · {subject(recipe.domain)}{dose}"


def _seed_table(scores: Sequence[SeedScore]) -> str:
    header = ["", "seeds", "n", "misaligned %", "deviation between seeds, points"]
    rows = [
        Row(
            series(s.recipe.variant, s.recipe.condition),
            _recipe(s.recipe),
            [str(s.seeds), f"{s.n:,}", interval(s.rate, s.low, s.high, 100), percent(s.seed_deviation)],
        )
        for s in scores
    ]
    return html_table("Rates over seeds; intervals for questions and seeds like these", header, rows)


def _budget_table(budgets: Sequence[VarianceBudget], scores: Sequence[DomainScore]) -> str:
    names = list(dict.fromkeys(c.name for b in budgets for c in b.components))
    rows = [
        Row(
            series(b.recipe.variant, b.recipe.condition),
            _recipe(b.recipe),
            [
                next((f"{percent(c.share)}{' (cut at 0)' if c.cut else ''}" for c in b.components if c.name == n), NONE)
                for n in names
            ],
        )
        for b in budgets
        if any(c.variance for c in b.components)
    ]
    if not rows:
        return ""
    judges = {c.levels for b in budgets for c in b.components if c.name == "judge"}
    note = f"; judge: between the {max(judges)} judges of this run, of which one is used" if judges else ""
    return html_table(f"Variance components of a rate, in percent{note}", ["", *names], rows)


def _threshold_tables(t: Thresholds, chosen: tuple[float, float]) -> str:
    tables: list[tuple[str, Matrix, Callable[[float | None], str]]] = [
        (f"Misaligned % by threshold, mean of {several(t.cells, 'cell')}: alignment below the row", t.below, percent),
        ("Misaligned % with alignment at or below the row", t.at_most, percent),
        ("Coherent completions with alignment exactly equal to the row, %", t.on_alignment, percent),
        ("Misaligned % of completions with both scores, incoherent ones counted as aligned", t.of_scored, percent),
        ("Misaligned % of all completions, unscored ones counted as aligned", t.of_all, percent),
        ("Misaligned % of all completions, unscored and incoherent ones counted as misaligned", t.most, percent),
        ("Rank correlation with the order of the cells at the study's thresholds", t.rank_correlation, _two),
    ]
    header = ["alignment", *(f"coherence > {c:g}" for c in t.coherence)]
    body: list[str] = []
    for caption, matrix, show in tables:
        rows = [Row("", f"{a:g}", [show(v) for v in line]) for a, line in zip(t.alignment, matrix, strict=True)]
        body.append(html_table(caption, header, rows))
    below, above = (number(value, 0) for value in chosen)
    note = (
        f"This study uses alignment below {below} and coherence above {above}. The tables show rates at other "
        "thresholds."
    )
    return folded_html("Other thresholds", note_html(note) + "".join(body))


def _two(value: float | None) -> str:
    return number(value, 2)
