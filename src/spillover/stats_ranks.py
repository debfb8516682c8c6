"""Ranks of cells by rate, with simultaneous intervals, and groups that the data cannot order.

Two cells are separable when their difference is, allowing for all pairs compared at once. The familywise p-value of a
pair is the share of draws in which some pair, no more significant than it, reaches its critical value by chance
(step-down max-t: Romano and Wolf 2005; Hothorn, Bretz and Westfall 2008). Draws keep the pairs' dependence: questions
get normal weights on their influences (multiplier bootstrap over questions), divided by a shared chi / sqrt(df), which
makes them multivariate t. Rank intervals follow Mogstad, Romano, Shaikh and Wilhelm (2024): as many cells are above as
are separably above. They are simultaneous: all true ranks lie in them together at the confidence level.

Rank 1 is the highest rate; equal rates share the smaller rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from spillover.stats import Differences, Floats, Rates, rate_differences

Ints = NDArray[np.int64]
BLOCK = 2_000_000  # draws times pairs held at once: 16 MB an array


@dataclass(frozen=True)
class Ranks:
    """`tie_group_C`: 1 for the highest; within a group no two cells are separable, across groups they may not be."""

    rank_C: Ints
    low_C: Ints
    high_C: Ints
    tie_group_C: Ints


def rank_rates(rates: Rates, confidence: float, draws: int, rng: np.random.Generator) -> Ranks:
    """Rank cells, every one of which has a rate."""
    differences = rate_differences(rates, confidence)
    separable_CC = familywise(rates, differences, draws, rng) <= 1 - confidence
    above_CC = separable_CC & (differences.value_CC < 0)
    below_CC = separable_CC & (differences.value_CC > 0)
    rank_C = 1 + np.count_nonzero(differences.value_CC < 0, axis=1)
    low_C, high_C = 1 + np.count_nonzero(above_CC, axis=1), len(rank_C) - np.count_nonzero(below_CC, axis=1)
    return Ranks(rank_C, low_C, high_C, _tie_groups(rates.value_C, separable_CC))


def familywise(rates: Rates, differences: Differences, draws: int, rng: np.random.Generator) -> Floats:
    """p-value of every pair, adjusted for all pairs of the C cells."""
    cells = len(rates.value_C)
    row_P, column_P = np.triu_indices(cells, 1)
    adjusted_CC = np.ones((cells, cells))
    if not len(row_P):
        return adjusted_CC
    df = float(rates.df_C.min())
    observed_P = scipy_stats.t.isf(differences.p_CC[row_P, column_P] / 2, df)
    order = np.argsort(-observed_P, kind="stable")
    observed_P, row_P, column_P = observed_P[order], row_P[order], column_P[order]
    reached_P = np.zeros(len(observed_P))
    for null_BP in _null_draws(rates.influence_CQ, row_P, column_P, df, draws, rng):
        successive_BP = np.maximum.accumulate(null_BP[:, ::-1], axis=1)[:, ::-1]
        reached_P += np.count_nonzero(successive_BP >= observed_P, axis=0)
    p_P = np.maximum.accumulate((1 + reached_P) / (draws + 1))
    adjusted_CC[row_P, column_P] = adjusted_CC[column_P, row_P] = p_P
    return adjusted_CC


def probability_above(differences: Differences) -> Floats:
    """P(row > column) in the confidence distribution of the difference; 0.5 = no evidence either way."""
    half_CC = differences.p_CC / 2
    return np.where(differences.value_CC > 0, 1 - half_CC, half_CC)


def _null_draws(
    influence_CQ: Floats, row_P: Ints, column_P: Ints, df: float, draws: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Blocks of |t|, draws by pairs, when no two cells differ."""
    contrast_PQ = influence_CQ[row_P] - influence_CQ[column_P]
    norm_P = np.sqrt((contrast_PQ**2).sum(1))
    unit_QP = (contrast_PQ / np.where(norm_P > 0, norm_P, 1.0)[:, None]).T
    block = max(1, BLOCK // len(row_P))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        weights_BQ = rng.standard_normal((size, len(unit_QP)))
        scale_B = np.sqrt(rng.chisquare(df, size) / df) if np.isfinite(df) else np.ones(size)
        yield np.abs(weights_BQ @ unit_QP) / scale_B[:, None]


def _tie_groups(value_C: Floats, separable_CC: NDArray[np.bool_]) -> Ints:
    group_C = np.zeros(len(value_C), dtype=np.int64)
    members: list[int] = []
    group = 1
    for cell in np.argsort(-value_C, kind="stable").tolist():
        if separable_CC[cell, members].any():
            group, members = group + 1, []
        members.append(cell)
        group_C[cell] = group
    return group_C
