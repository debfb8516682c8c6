"""Ranks of cells by rate, with simultaneous intervals, and groups that the data cannot order.

Two cells are separable when the p-value of their difference, adjusted for all pairs at once by Tukey's studentized
range, is small enough. With few questions neither the spread of a rate nor the correlation of two rates over
questions is well known, and the extreme of 78 pairs picks out the cells in which they were underestimated. Spreads are
therefore moderated by those of the other cells (below) and correlations towards 0
(`spillover.stats.clustered.rate_differences`). Draws that keep the dependence of the pairs (step-down max-t with a
multiplier bootstrap over questions) called a pair of thirteen equal cells separable in 23 % of studies at 8 questions.
Rank intervals follow Mogstad, Romano, Shaikh and Wilhelm (2024): as many cells are above as are separably above. They
are simultaneous: all true ranks lie in them together at the confidence level. Rank 1 is the highest rate; equal rates
share the smaller rank.

Moderated design effects. The fixed prior of `spillover.stats.clustered` is right for a single rate, but the cells of
one study show how large design effects are here and how much they differ. As in Smyth (2004), ln d is taken to be
normal about ln d_0, with

    e_c = ln d_c - digamma(f_c / 2) + ln(f_c / 2),   var e_c = trigamma(f_c / 2) + trigamma(f_0 / 2),

so the mean of e gives d_0 and its spread f_0; the usual prior (RHO, NU) counts as CELLS more cells, which is all that
two or three cells have. Then D_c = max(1, (f_c d_c + f_0 d_0) / (f_c + f_0)), with f_c + f_0 degrees of freedom.
Smyth's f_c is Q - 1, which holds for normal data. A low rate's hits lie in few questions, and where by chance none of
those was asked, rate and spread come out low together. The variance of a variance of Q values of excess kurtosis k is
2 / (Q - 1) + k / Q in units of its square, hence f_c = 2 / (2 / (Q - 1) + k / Q), k being that of a beta distribution
at the cell's rate and RHO.

All pairs of C cells: the p-value of a difference at the critical value t with f degrees of freedom is that of Tukey's
studentized range of C cells at t sqrt(2), for which the chance that any of equal, independent cells of one variance is
separated is the nominal one. Bonferroni's is never smaller: with thirteen cells its 5 % are 2.1 % at 11 degrees of
freedom and 3.6 % at infinitely many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special
from scipy import stats as scipy_stats

from spillover.stats import Bools, Floats, Ints
from spillover.stats.clustered import LARGEST, NU, RHO, Differences, Rates, rate_differences

CELLS = 2.0  # cells that the usual prior is worth
_LEAST_SPREAD = 5e-3  # of trigamma(f_0 / 2): f_0 up to 400
_NEWTON = 12  # steps; five digits after four
_NODES = 48  # of an integral
_MANY = 1e5  # degrees of freedom that are as good as infinitely many


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
    moderated = moderate_design_effects(rates, len(rates.value_C))
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


def moderate_design_effects(rates: Rates, cells: int) -> Rates:
    """Rates whose design effects are moderated by one another, each `cells` consecutive rows; NaN without answers."""
    q_C = np.maximum(rates.questions_C - 1, 1e-9)
    hits_C = rates.value_C * rates.n_C
    a_question_C = rates.n_C / np.maximum(rates.questions_C, 1)
    # one more question of half hits, so that a rate of 0 has a kurtosis
    rate_C = (hits_C + a_question_C / 2) / (rates.n_C + a_question_C)
    f_C = 2 / (2 / q_C + np.maximum(_kurtosis(rate_C), 0) / (q_C + 1))
    measured_C = rates.design_effect_C
    known_C = measured_C > 0  # a rate of 0 or 1 has none, and where all questions agree it has no logarithm
    f_0, d_0 = (
        np.repeat(prior, cells)
        for prior in _prior(*(a.reshape(-1, cells) for a in (measured_C, f_C, rates.usual_effect_C)))
    )
    weight_C = np.where(known_C, f_C, 0.0)
    effect_C = (weight_C * np.where(known_C, measured_C, 0.0) + f_0 * d_0) / (weight_C + f_0)
    lone_C = np.isinf(rates.df_C)
    effective_C = np.where(lone_C, rates.effective_n_C, rates.n_C / np.maximum(1.0, effect_C))
    return replace(rates, effective_n_C=effective_C, df_C=np.where(lone_C, np.inf, f_C + f_0))


def range_p(t: Floats, df: Floats, cells: int) -> Floats:
    """Chance that the largest of all differences among equal cells is beyond t; broadcast."""
    f = np.minimum(df, _MANY)[..., None]
    # Both integrals by the trapezoid rule, which is exact to rounding for smooth densities that vanish at both ends:
    # over the logarithm x of an estimated variance, whose density is exp(f (x - e^x) / 2) up to a constant,
    x_K = np.sqrt(2 / f) * np.linspace(-9, 7, _NODES)
    weight_K = np.exp(f / 2 * (x_K - np.expm1(x_K)))
    # and over the place of the largest of the cells.
    z_J = np.linspace(-8, 8, 2 * _NODES)
    density_J = scipy_stats.norm.pdf(z_J) * (z_J[1] - z_J[0])
    w_K1 = (np.sqrt(2) * np.asarray(t)[..., None] * np.exp(x_K / 2))[..., None]
    within_K = cells * ((special.ndtr(z_J) - special.ndtr(z_J - w_K1)) ** (cells - 1) @ density_J)
    return np.clip(1 - (within_K * weight_K).sum(-1) / weight_K.sum(-1), 0.0, 1.0)


def _tie_groups(value_C: Floats, separable_CC: Bools) -> Ints:
    group_C = np.zeros(len(value_C), dtype=np.int64)
    members: list[int] = []
    group = 1
    for cell in np.argsort(-value_C, kind="stable").tolist():
        if separable_CC[cell, members].any():
            group, members = group + 1, []
        members.append(cell)
        group_C[cell] = group
    return group_C


def _prior(measured_SC: Floats, f_SC: Floats, usual_SC: Floats) -> tuple[Floats, Floats]:
    """f_0 and d_0 of S studies."""
    known_SC = measured_SC > 0
    log_SC = np.log(np.where(known_SC, measured_SC, 1.0)) + np.log(f_SC / 2) - special.digamma(f_SC / 2)
    usual_S = np.log(np.nanmean(usual_SC, axis=1)) + np.log(NU / 2) - special.digamma(NU / 2)
    n_S = known_SC.sum(1)
    mean_S = (np.where(known_SC, log_SC, 0).sum(1) + CELLS * usual_S) / (n_S + CELLS)
    squares_SC = (log_SC - mean_S[:, None]) ** 2 * (n_S / np.maximum(n_S - 1, 1))[:, None]
    excess_SC = np.where(known_SC, squares_SC - special.polygamma(1, f_SC / 2), 0)
    spread_S = (excess_SC.sum(1) + CELLS * special.polygamma(1, NU / 2)) / (n_S + CELLS)
    f_0 = 2 * _inverse_trigamma(np.maximum(spread_S, _LEAST_SPREAD))
    return f_0, np.exp(mean_S + special.digamma(f_0 / 2) - np.log(f_0 / 2))


def _kurtosis(rate: Floats) -> Floats:
    """Excess kurtosis of a beta distribution of this mean whose answers have the correlation RHO."""
    size = (1 - RHO) / RHO
    a, b = rate * size, (1 - rate) * size
    return 6 * ((a - b) ** 2 * (size + 1) - a * b * (size + 2)) / (a * b * (size + 2) * (size + 3))


def _inverse_trigamma(y: Floats) -> Floats:
    """Newton's method as in Smyth (2004), from below."""
    x = 0.5 + 1 / y
    for _ in range(_NEWTON):
        at = special.polygamma(1, x)
        x = x + at * (1 - at / y) / special.polygamma(2, x)
    return x
