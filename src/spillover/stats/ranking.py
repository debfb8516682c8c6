"""Ranks of cells by rate, with simultaneous intervals, and groups that the data cannot order.

Two cells are separable when the p-value of their difference, adjusted for all pairs at once by Tukey's studentized
range, is small enough. With few questions neither the spread of a rate nor the correlation of two rates over
questions is well known, and the extreme of 78 pairs finds the cells in which they were guessed low: spreads are
therefore moderated by those of the other cells (`spillover.stats.design_effects`) and correlations towards 0
(`spillover.stats.clustered.rate_differences`). Draws that keep the dependence of the pairs (step-down max-t with a
multiplier
bootstrap over questions) called a pair of thirteen equal cells separable in 23 % of studies at 8 questions. Rank
intervals follow Mogstad, Romano, Shaikh and Wilhelm (2024): as many cells are above as are separably above. They are
simultaneous: all true ranks lie in them together at the confidence level.

Rank 1 is the highest rate; equal rates share the smaller rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from spillover.stats.clustered import LARGEST, Differences, Floats, Rates, rate_differences
from spillover.stats.design_effects import range_p, together

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ranks:
    """`tie_group_C`: 1 for the highest; within a group no two cells are separable, across groups they may not be."""

    rank_C: Ints
    low_C: Ints
    high_C: Ints
    tie_group_C: Ints


def rank_rates(rates: Rates, confidence: float) -> Ranks:
    """Rank cells, every one of which has a rate."""
    differences, p_CC = compare(rates, confidence)
    separable_CC = p_CC <= 1 - confidence
    above_CC = separable_CC & (differences.value_CC < 0)
    below_CC = separable_CC & (differences.value_CC > 0)
    rank_C = 1 + np.count_nonzero(differences.value_CC < 0, axis=1)
    low_C, high_C = 1 + np.count_nonzero(above_CC, axis=1), len(rank_C) - np.count_nonzero(below_CC, axis=1)
    return Ranks(rank_C, low_C, high_C, _tie_groups(rates.value_C, separable_CC))


def compare(rates: Rates, confidence: float) -> tuple[Differences, Floats]:
    """Every pair of the C cells, and p-values adjusted for all pairs; these are 1 on the diagonal."""
    moderated = together(rates, len(rates.value_C))
    differences = rate_differences(moderated, confidence, moderated=True)
    row_P, column_P = np.triu_indices(len(rates.value_C), 1)
    df_P = np.minimum(moderated.df_C[row_P], moderated.df_C[column_P])
    p_CC = np.ones_like(differences.p_CC)
    p_CC[row_P, column_P] = familywise(differences.p_CC[row_P, column_P], df_P, len(rates.value_C))
    return differences, np.minimum(p_CC, p_CC.T)


def familywise(p_P: Floats, df_P: Floats, cells: int) -> Floats:
    """p-values of single pairs, adjusted for all pairs of so many cells."""
    t_P = np.where(p_P > 2 * scipy_stats.t.sf(LARGEST, df_P), scipy_stats.t.isf(p_P / 2, df_P), LARGEST)
    return np.maximum(p_P, range_p(t_P, df_P, cells))


def probability_above(differences: Differences) -> Floats:
    """P(row > column) in the confidence distribution of the difference; 0.5 = no evidence either way."""
    half_CC = differences.p_CC / 2
    return np.where(differences.value_CC > 0, 1 - half_CC, half_CC)


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
