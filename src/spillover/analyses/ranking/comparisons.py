"""Comparisons: how the cells compare with one another, where their variance comes from, and what thresholds do.

Formulas: `spillover.stats.ranking`, `pooling`, `variance` and `thresholds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

import numpy as np

from spillover.config.study import RankConfig
from spillover.records.base import MEASURES, Cell, Condition, Measure, Variant
from spillover.records.comparisons import (
    Comparisons,
    DomainEffect,
    Matrix,
    Order,
    PooledEffect,
    Recipe,
    SeedScore,
    Thresholds,
    VarianceBudget,
    VarianceComponent,
)
from spillover.stats import Floats
from spillover.stats import clustered as stats
from spillover.stats.pooling import pool, seed_rates
from spillover.stats.ranking import compare, probability_above
from spillover.stats.thresholds import rank_agreement
from spillover.stats.variance import components, with_judges
from spillover.tables.counts import Counts, Key

MOST_CELLS = 40  # of an order whose pairs are kept: 1,600 numbers


def compare_cells(table: Counts, judge: str, config: RankConfig, others: Sequence[Counts] = ()) -> Comparisons:
    """All of it, for one judge's judgments; `others`: what other judges say of these answers, or of some."""
    recipes: dict[Recipe, list[int]] = {}
    for g, (cell, condition) in enumerate(table.keys):
        if table.coherent_GQ[g].any():
            recipes.setdefault(_recipe(cell, condition), []).append(g)
    return Comparisons(
        judge=judge,
        orders=tuple(_orders(table, config)),
        seeds=tuple(_seeds(recipe, rows, table, config) for recipe, rows in recipes.items() if len(rows) > 1),
        budgets=tuple(_budget(recipe, rows, table, others) for recipe, rows in recipes.items()),
        pooled=tuple(_pooled(table, config)),
        thresholds=_thresholds(table),
    )


def _recipe(cell: Cell, condition: Condition) -> Recipe:
    return Recipe(model=cell.model, domain=cell.domain, variant=cell.variant, dose=cell.dose, condition=condition)


def _orders(table: Counts, config: RankConfig) -> Iterator[Order]:
    groups: set[tuple[Variant, Condition]] = {(cell.variant, condition) for cell, condition in table.keys}
    for variant, condition in sorted(groups, key=str):
        rows = [g for g, (cell, c) in enumerate(table.keys) if (cell.variant, c) == (variant, condition)]
        rows = [g for g in rows if table.coherent_GQ[g].any()]
        if not 2 <= len(rows) <= MOST_CELLS:
            continue
        found = table.rates(rows)
        ordered = np.argsort(-found.value_C, kind="stable")
        differences, p_CC = compare(found.take(ordered), config.confidence)
        yield Order(
            variant=variant,
            condition=condition,
            cells=tuple(table.keys[rows[i]][0].name for i in ordered.tolist()),
            above=_matrix(probability_above(differences)),
            p=_matrix(p_CC),
        )


def _seeds(recipe: Recipe, rows: Sequence[int], table: Counts, config: RankConfig) -> SeedScore:
    hits_SQ, n_SQ = table.misaligned_GQ[list(rows)], table.coherent_GQ[list(rows)]
    asked_Q = n_SQ.sum(0) > 0
    found = seed_rates(hits_SQ[None][:, :, asked_Q], n_SQ[None][:, :, asked_Q], config.confidence)
    return SeedScore(
        recipe=recipe,
        seeds=len(rows),
        n=int(table.n_GQ[list(rows)].sum()),
        coherent=int(n_SQ.sum()),
        misaligned=int(hits_SQ.sum()),
        rate=float(found.value_C[0]),
        low=float(found.low_C[0]),
        high=float(found.high_C[0]),
        seed_deviation=float(found.seed_deviation_C[0]),
    )


def _budget(recipe: Recipe, rows: Sequence[int], table: Counts, others: Sequence[Counts]) -> VarianceBudget:
    n_SQ, hits_SQ = table.coherent_GQ[list(rows)], table.misaligned_GQ[list(rows)]
    seed, question = np.nonzero(n_SQ)
    hits = hits_SQ[seed, question]
    found = components({"seed": seed, "question": question}, n_SQ[seed, question], hits, hits)
    keys = {table.keys[g] for g in rows}
    judges = [counts for one in (table, *others) if (counts := _by_question(one, keys))]
    shared = sorted(set[str].intersection(*(set(counts) for counts in judges)))
    if len(judges) > 1 and len(shared) > 1:
        counts_JQ2 = np.array([[counts[name] for name in shared] for counts in judges])
        found = with_judges(found, counts_JQ2[..., 0], counts_JQ2[..., 1])
    parts = (
        VarianceComponent(name=c.name, levels=c.levels, variance=c.variance, share=c.share, cut=c.cut) for c in found
    )
    return VarianceBudget(recipe=recipe, components=tuple(parts))


def _by_question(table: Counts, keys: Set[Key]) -> dict[str, tuple[float, float]]:
    """Misaligned and coherent answers of these groups together, for each question with a coherent one."""
    rows = [g for g, key in enumerate(table.keys) if key in keys]
    hits_Q, n_Q = table.misaligned_GQ[rows].sum(0), table.coherent_GQ[rows].sum(0)
    return {table.questions[q]: (float(hits_Q[q]), float(n_Q[q])) for q in np.flatnonzero(n_Q).tolist()}


def _pooled(table: Counts, config: RankConfig) -> Iterator[PooledEffect]:
    index = {key: g for g, key in enumerate(table.keys)}
    families: dict[tuple[str, str, float], dict[str, list[tuple[int, int]]]] = {}
    for (cell, condition), g in index.items():
        if condition == "clean" and (cell, "triggered") in index:
            domains = families.setdefault((cell.model, cell.variant, cell.dose), {})
            domains.setdefault(cell.domain, []).append((index[cell, "triggered"], g))
    measures = sorted(MEASURES)
    for (model, variant, dose), domains in sorted(families.items()):
        for measure in measures:
            known = {d: e for d, pairs in domains.items() if (e := _effect(table, pairs, measure, config)) is not None}
            if len(known) < 2:
                continue
            y_K, v_K, z_KQ = (np.array([e[i] for e in known.values()]) for i in range(3))
            found = pool(y_K, v_K, config.confidence, z_KQ[None])
            own = (found.shrunken_SK[0], found.shrunken_low_SK[0], found.shrunken_high_SK[0])
            rows = zip(known, y_K.tolist(), *(a.tolist() for a in own), strict=True)
            yield PooledEffect.model_validate(
                {
                    "model": model,
                    "variant": variant,
                    "dose": dose,
                    "measure": measure,
                    "value": float(found.value_S[0]),
                    "low": float(found.low_S[0]),
                    "high": float(found.high_S[0]),
                    "p": float(found.p_S[0]),
                    "deviation": float(found.tau_S[0]),
                    "domains": tuple(
                        DomainEffect(domain=name, measured=measured, value=value, low=low, high=high)
                        for name, measured, value, low, high in rows
                    ),
                }
            )


def _effect(
    table: Counts, pairs: Sequence[tuple[int, int]], measure: Measure, config: RankConfig
) -> tuple[float, float, Floats] | None:
    """Difference, variance and influences of one domain, its seeds averaged; None without spread to go by."""
    found: list[tuple[float, float, Floats]] = []
    for triggered, clean in pairs:
        count_GQ = table.coherent_GQ if measure == "rate" else table.scored_GQ
        shared_Q = (count_GQ[triggered] > 0) & (count_GQ[clean] > 0)
        if shared_Q.sum() < 2:
            continue
        rows, z_Q = [triggered, clean], np.zeros(len(shared_Q))
        if measure == "rate":
            both = table.rates(rows, shared_Q)
            d = stats.rate_differences(both, config.confidence)
        else:
            both = table.means(rows, shared_Q)
            d = stats.mean_differences(both, config.confidence)
        z_Q[shared_Q] = both.influence_CQ[0] - both.influence_CQ[1]
        # Half the interval's width stands for the error: a rate of 0 with and without the trigger has a width, too.
        quantile = stats.t_quantile(float(both.df_C.min()), config.confidence)
        found.append((float(d.value_CC[0, 1]), float((d.high_CC - d.low_CC)[0, 1] / 2 / quantile), z_Q))
    if not found or any(error == 0 for _, error, _ in found):
        return None
    return (
        float(np.mean([value for value, _, _ in found])),
        float(np.mean([error**2 for _, error, _ in found])),
        np.mean([z_Q for _, _, z_Q in found], axis=0),
    )


def _thresholds(table: Counts) -> Thresholds | None:
    s = table.surface
    with np.errstate(invalid="ignore"):
        default_G = table.misaligned_GQ.sum(1) / np.where(table.coherent_GQ.any(1), table.coherent_GQ.sum(1), np.nan)
    known = ~np.isnan(default_G)
    if not known.any():
        return None

    def mean(values_GAH: Floats) -> Matrix:
        chosen = values_GAH[known]
        count = np.count_nonzero(~np.isnan(chosen), axis=0)
        return _matrix(np.where(count > 0, np.nansum(chosen, axis=0) / np.maximum(count, 1), np.nan))

    return Thresholds(
        cells=int(known.sum()),
        alignment=tuple(s.alignment_A.tolist()),
        coherence=tuple(s.coherence_H.tolist()),
        below=mean(s.below_GAH),
        at_most=mean(s.at_most_GAH),
        on_alignment=mean(s.on_alignment_GAH),
        of_scored=mean(s.of_scored_GAH),
        of_all=mean(s.of_all_GAH),
        most=mean(s.most_GAH),
        rank_correlation=_matrix(rank_agreement(s.below_GAH[known], default_G[known])),
    )


def _matrix(values: Floats) -> Matrix:
    return tuple(tuple(None if np.isnan(v) else float(v) for v in row) for row in values)
