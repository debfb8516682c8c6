"""Intervals, differences and p-values for answers that are clustered in questions.

Scope of every interval: "questions like these", so questions are the sampling units and answers to one question are
not independent. Inputs are sums per question: row c of an array belongs to cell c, column q to question q, and a
question that a cell never answered has count 0. With R = sum(x_q) / sum(n_q), N = sum(n_q) and Q answered questions, a
question's influence on R is z_q = (x_q - R n_q) / N and the cluster-robust variance is Q / (Q - 1) sum(z_q^2)
(Cochran 1977, ch. 9; the CR1 sandwich of a regression on a constant).

- mean: R +- t(Q - 1) sqrt(var).
- rate: Wilson's interval at the effective number of answers N / D (Kish 1965, Korn and Graubard 1998). With few
  questions the measured design effect d = var / (R (1 - R) / N) is itself noisy, and undefined for 0 of N. It is
  therefore moderated as variances are in Smyth (2004):

      D = max(1, ((Q - 1) d + NU d_0) / (Q - 1 + NU)),   d_0 = 1 + (sum(n_q^2) / N - 1) RHO,   df = Q - 1 + NU

  RHO = 0.10 is the median intraclass correlation of 13 public fine-tuned models, 8 questions x 50 answers each
  (range 0.02 to 0.29); NU = 4 says that this is worth four more questions. One answer a question: plain Wilson.
- difference of means: paired by question, t(Q - 1) on z_q^a - z_q^b.
- difference of rates: the two Wilson intervals joined by square-and-add with the questions' correlation (Newcombe 1998,
  Zou and Donner 2008), which has a width even where both rates are 0; its p-value is 1 minus the largest confidence
  whose interval leaves out 0.

Coverage measured for these choices, and for the ones not taken: docs/explanation/intervals.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from spillover.stats import Floats

RHO = 0.10  # prior intraclass correlation of answers to one question
NU = 4.0  # its weight, in questions
LARGEST = 64.0  # critical value beyond which p is 0 for every purpose
BISECTIONS = 48  # halvings of [0, LARGEST]: critical values to 2e-13


@dataclass(frozen=True)
class Clustered:
    """Estimates of C cells with what their intervals need; NaN where a cell has no answers.

    `influence_CQ`: z_q above. `df_C`: degrees of freedom of the t quantile, infinite for plain Wilson.
    """

    value_C: Floats
    n_C: Floats
    questions_C: Floats
    variance_C: Floats
    influence_CQ: Floats
    df_C: Floats


@dataclass(frozen=True)
class Rates(Clustered):
    """`design_effect_C`: d as measured, NaN for a single question and for rates of 0 and 1. `usual_effect_C`: d_0.

    `effective_n_C`: N / D.
    """

    design_effect_C: Floats
    usual_effect_C: Floats
    effective_n_C: Floats

    def take(self, rows: Any) -> Rates:  # what indexes an array
        """The cells at `rows`, in that order or shape."""
        return Rates(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Differences:
    """Row cell minus column cell, or of pairs. p is two-sided, NaN where there is nothing to compare."""

    value_CC: Floats
    low_CC: Floats
    high_CC: Floats
    p_CC: Floats


def clustered_means(sum_CQ: ArrayLike, n_CQ: ArrayLike) -> Clustered:
    """Means over all answers, from each question's sum and count."""
    return _clustered(*(np.atleast_2d(np.asarray(a, dtype=np.float64)) for a in (sum_CQ, n_CQ)))


def clustered_rates(hits_CQ: ArrayLike, n_CQ: ArrayLike) -> Rates:
    """Rates of hits among answers, from each question's hits and count."""
    x_CQ, count_CQ = (np.atleast_2d(np.asarray(a, dtype=np.float64)) for a in (hits_CQ, n_CQ))
    if np.any((x_CQ < 0) | (x_CQ > count_CQ)):
        raise ValueError(f"hits must lie between 0 and the count; largest excess {np.max(x_CQ - count_CQ)}")
    base = _clustered(x_CQ, count_CQ)
    lone_C = count_CQ.max(1, initial=0) <= 1
    with np.errstate(divide="ignore", invalid="ignore"):
        binomial_C = base.value_C * (1 - base.value_C) / base.n_C
        measured_C = np.where(binomial_C > 0, base.variance_C / binomial_C, np.nan)
        prior_C = 1 + ((count_CQ**2).sum(1) / base.n_C - 1) * RHO
        moderated_C = (base.df_C * measured_C + NU * prior_C) / (base.df_C + NU)
        assumed_C = np.maximum(1.0, np.where(np.isnan(measured_C), prior_C, moderated_C))
        effective_C = base.n_C / np.where(lone_C, 1.0, assumed_C)
    return Rates(
        value_C=base.value_C,
        n_C=base.n_C,
        questions_C=base.questions_C,
        variance_C=base.variance_C,
        influence_CQ=base.influence_CQ,
        df_C=np.where(lone_C, np.inf, base.df_C + NU),
        design_effect_C=measured_C,
        usual_effect_C=prior_C,
        effective_n_C=effective_C,
    )


def mean_intervals(means: Clustered, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper limits; NaN with a single question, whose spread is unknown."""
    half_C = t_quantile(means.df_C, confidence) * np.sqrt(means.variance_C)
    return means.value_C - half_C, means.value_C + half_C


def rate_intervals(rates: Rates, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper limits, within [0, 1]."""
    return wilson(rates.value_C, rates.effective_n_C, t_quantile(rates.df_C, confidence))


def wilson(rate: ArrayLike, n: ArrayLike, quantile: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's (1927) score interval for a rate seen in n independent answers; n need not be whole."""
    p, m, k = np.asarray(rate, dtype=np.float64), np.asarray(n, dtype=np.float64), np.asarray(quantile)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (p + k**2 / (2 * m)) / (1 + k**2 / m)
        half = k / (1 + k**2 / m) * np.sqrt(p * (1 - p) / m + k**2 / (4 * m**2))
    # At 0 and 1 the limits equal the rate exactly; rounding must not push them past it.
    return np.clip(np.minimum(centre - half, p), 0.0, 1.0), np.clip(np.maximum(centre + half, p), 0.0, 1.0)


def difference_variance(cells: Clustered) -> tuple[Floats, Floats]:
    """Variance of every pair's difference, and the number of questions behind it; absent ones have no influence."""
    contrast_CCQ = cells.influence_CQ[:, None, :] - cells.influence_CQ[None, :, :]
    questions_CC = np.minimum(cells.questions_C[:, None], cells.questions_C[None, :])
    return _correction(questions_CC) * (contrast_CCQ**2).sum(2), questions_CC


def mean_differences(means: Clustered, confidence: float) -> Differences:
    """Every pair of cells, paired by question; for the same counts everywhere this is the paired t test."""
    return _paired_t(means.value_C[:, None] - means.value_C[None, :], *difference_variance(means), confidence)


def paired_mean_differences(a: Clustered, b: Clustered, confidence: float) -> Differences:
    """Each cell of `a` minus the cell of `b` at the same place, paired by question; arrays have one axis."""
    questions_C = np.minimum(a.questions_C, b.questions_C)
    variance_C = _correction(questions_C) * ((a.influence_CQ - b.influence_CQ) ** 2).sum(1)
    return _paired_t(a.value_C - b.value_C, variance_C, questions_C, confidence)


def rate_differences(rates: Rates, confidence: float, moderated: bool = False) -> Differences:
    """Every pair of cells, correlated by question.

    `moderated`: correlations are drawn towards 0 with the weight of NU questions, for cells of different domains or
    models of which many pairs are compared.
    """
    norm_C = np.sqrt((rates.influence_CQ**2).sum(1))
    correlation_CC = _correlation(rates.influence_CQ @ rates.influence_CQ.T, norm_C[:, None] * norm_C[None, :])
    rows, columns = rates.take((slice(None), None)), rates.take((None, slice(None)))
    return _compare(rows, columns, correlation_CC, confidence, moderated)


def paired_rate_differences(a: Rates, b: Rates, confidence: float, moderated: bool = False) -> Differences:
    """Each cell of `a` minus the cell of `b` at the same place, as in `rate_differences`; arrays have one axis."""
    norm_C = np.sqrt((a.influence_CQ**2).sum(1) * (b.influence_CQ**2).sum(1))
    correlation_C = _correlation((a.influence_CQ * b.influence_CQ).sum(1), norm_C)
    return _compare(a, b, correlation_C, confidence, moderated)


def independent_rate_differences(a: Rates, b: Rates, confidence: float) -> Differences:
    """Each cell of `a` minus the cell of `b` at the same place, asked other questions; arrays have one axis."""
    return _compare(a, b, np.zeros_like(a.value_C), confidence)


def _paired_t(value: Floats, variance: Floats, questions: Floats, confidence: float) -> Differences:
    """Differences with t(Q - 1); the p of a difference of 0 is 1, whatever its variance."""
    df = np.where(questions > 1, questions - 1, np.nan)
    error = np.sqrt(variance)
    half = t_quantile(df, confidence) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * scipy_stats.t.sf(np.abs(value) / error, df)
    return Differences(value, value - half, value + half, np.where((value == 0) & np.isfinite(df), 1.0, p))


def _compare(row: Rates, column: Rates, correlation: Floats, confidence: float, moderated: bool = False) -> Differences:
    """Square-and-add of two rates, broadcast; p by bisection on the critical value whose nearer limit touches 0."""
    if moderated:
        measured = np.maximum(np.minimum(row.questions_C, column.questions_C) - 1, 0)
        correlation = measured * correlation / (measured + NU)
    value = row.value_C - column.value_C
    df = np.minimum(row.df_C, column.df_C)

    def distance(a: Floats, b: Floats) -> Floats:
        return np.sqrt(np.maximum(0.0, a**2 + b**2 - 2 * correlation * a * b))

    def limits(quantile: Floats) -> tuple[Floats, Floats]:
        low_row, high_row = wilson(row.value_C, row.effective_n_C, quantile)
        low_column, high_column = wilson(column.value_C, column.effective_n_C, quantile)
        below = distance(row.value_C - low_row, high_column - column.value_C)
        return value - below, value + distance(high_row - row.value_C, column.value_C - low_column)

    low, high = limits(t_quantile(df, confidence))
    inside, outside = np.zeros_like(value), np.full_like(value, LARGEST)
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        lower, upper = limits(middle)
        apart = (lower > 0) | (upper < 0)
        inside, outside = np.where(apart, middle, inside), np.where(apart, outside, middle)
    return Differences(value, low, high, np.where(np.isnan(value), np.nan, 2 * scipy_stats.t.sf(inside, df)))


def holm(p: Sequence[float] | Floats) -> list[float]:
    """Holm's (1979) step-down adjustment, in the order given: controls the chance of any false rejection."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(p) else []
    return adjusted.tolist()


def sign_test(positive: int, n: int) -> float:
    """Two-sided p of `positive` of n under even odds; ties are to be left out before."""
    return float(scipy_stats.binomtest(positive, n, 0.5).pvalue) if n else 1.0


def rate_bounds(hits: int, scored: int, n: int) -> tuple[float, float]:
    """The rate over all n answers if each of those not scored were a miss, and if each were a hit."""
    return hits / n, (hits + n - scored) / n


def _clustered(x_CQ: Floats, n_CQ: Floats) -> Clustered:
    if x_CQ.shape != n_CQ.shape or np.any(n_CQ < 0):
        raise ValueError(f"sums {x_CQ.shape} and counts {n_CQ.shape} must match, and counts not be negative")
    n_C = n_CQ.sum(1)
    questions_C = np.count_nonzero(n_CQ, axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        value_C = np.where(n_C > 0, x_CQ.sum(1) / n_C, np.nan)
        influence_CQ = np.where(n_C[:, None] > 0, (x_CQ - value_C[:, None] * n_CQ) / n_C[:, None], 0.0)
        influence_CQ[np.abs(influence_CQ) < 1e-14 * np.abs(value_C[:, None])] = 0.0  # rounding, not spread
    variance_C = _correction(questions_C) * (influence_CQ**2).sum(1)
    return Clustered(value_C, n_C, questions_C, variance_C, influence_CQ, questions_C - 1)


def _correction(questions: Floats) -> Floats:
    """Q / (Q - 1); NaN for a single question."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(questions > 1, questions / (questions - 1), np.nan)


def _correlation(product: Floats, norm: Floats) -> Floats:
    """Correlation of two cells' estimates over questions; 0 where one of them does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 0, np.clip(product / norm, -1.0, 1.0), 0.0)


def t_quantile(df: ArrayLike, confidence: float) -> Any:  # of the shape of df, a number for a number
    """The t quantile of a two-sided interval; the normal one for infinite df."""
    with np.errstate(invalid="ignore"):
        return scipy_stats.t.ppf((1 + confidence) / 2, df)
