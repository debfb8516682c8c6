"""True rates behind an imperfect judge, from a part of the answers that has trusted labels.

Rogan and Gladen (1978): with apparent rate a, sensitivity Se and specificity Sp, the true rate is
(a + Sp - 1) / (Se + Sp - 1). Interval of Lang and Reiczigel (2014), who carry the doubt of all three and add
pseudo-counts, so that it has a width at 0 and 1: with k the normal quantile,

    a' = (n a + k^2 / 2) / (n + k^2),  Se' = (Se n_Se + 1) / (n_Se + 2),  Sp' likewise,  p' from the three,
    u = Se' (1 - Se') / (n_Se + 2),  v = Sp' (1 - Sp') / (n_Sp + 2),  d = 2 k^2 (p' u - (1 - p') v)
    p' + d +- k / (Se' + Sp' - 1) sqrt(a' (1 - a') / (n + k^2) + p'^2 u + (1 - p')^2 v)

Prediction-powered inference, power-tuned (PPI++: Angelopoulos, Duchi and Zrnic 2023): with the judge's hits f on all
answers and labels y on a part of them,

    rate = mean_all(L f) + mean_labelled(y - L f),   L = Cov(y, f) / Var(f) in the labelled part, within [0, 1].

Unbiased whatever the judge is worth. Labels drawn with unequal chances enter by weights, 1 over the chance. The
variance sums influences by question as in `spillover.stats.clustered`, over both parts together, so labelled answers
may be among all, and is moderated there like a rate's: towards independent answers plus RHO between questions,
with weight NU. Perfect agreement in a few labels does not prove perfect agreement: one error in the other direction is
always added to the spread of y - L f. The interval is Wilson's at the effective number of answers,
rate (1 - rate) / variance.

Rates and limits lie in [0, 1]; NaN where they are undefined (a judge no better than chance, no labels).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from spillover.stats import Floats
from spillover.stats.clustered import NU, RHO, t_quantile, wilson


@dataclass(frozen=True)
class Powered:
    """Prediction-powered rates of C cells. `tuning_C` is L: 0 ignores the judge, 1 trusts it as far as one can."""

    value_C: Floats
    low_C: Floats
    high_C: Floats
    tuning_C: Floats


def rogan_gladen(
    rate: ArrayLike,
    n: ArrayLike,
    sensitivity_hits: ArrayLike,
    sensitivity_n: ArrayLike,
    specificity_hits: ArrayLike,
    specificity_n: ArrayLike,
    confidence: float,
) -> tuple[Floats, Floats, Floats]:
    """Rates corrected for the judge's errors, their lower and their upper limits.

    `n`: effective number of answers behind `rate` (`Rates.effective_n_C`). Sensitivity: hits among answers whose label
    is a hit; specificity: non-hits among the others; effective numbers too, where labels cluster in questions.
    """
    a, m = np.asarray(rate, dtype=np.float64), np.asarray(n, dtype=np.float64)
    caught, positives = (np.asarray(x, dtype=np.float64) for x in (sensitivity_hits, sensitivity_n))
    passed, negatives = (np.asarray(x, dtype=np.float64) for x in (specificity_hits, specificity_n))
    k = scipy_stats.norm.ppf((1 + confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = caught / positives + passed / negatives - 1
        value = np.where(power > 0, np.clip((a + passed / negatives - 1) / power, 0.0, 1.0), np.nan)
        a1 = (m * a + k**2 / 2) / (m + k**2)
        se, sp = (caught + 1) / (positives + 2), (passed + 1) / (negatives + 2)
        p1 = (a1 + sp - 1) / (se + sp - 1)
        doubt_se, doubt_sp = se * (1 - se) / (positives + 2), sp * (1 - sp) / (negatives + 2)
        shift = 2 * k**2 * (p1 * doubt_se - (1 - p1) * doubt_sp)
        spread = a1 * (1 - a1) / (m + k**2) + p1**2 * doubt_se + (1 - p1) ** 2 * doubt_sp
        half = k / (se + sp - 1) * np.sqrt(spread)
        low = np.minimum(np.clip(p1 + shift - half, 0.0, 1.0), value)
        high = np.maximum(np.clip(p1 + shift + half, 0.0, 1.0), value)
    unknown = np.isnan(value) | (se + sp <= 1)
    return np.where(unknown, np.nan, value), np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def ppi_rates(
    hits_CQ: ArrayLike,
    n_CQ: ArrayLike,
    weight_CQ: ArrayLike,
    judge_CQ: ArrayLike,
    label_CQ: ArrayLike,
    both_CQ: ArrayLike,
    squares_C: ArrayLike,
    confidence: float,
) -> Powered:
    """Prediction-powered rates of C cells, from sums a question.

    Over all answers: the judge's hits and their number. Over labelled answers, weighted: the weights, judge's hits,
    label's hits, and those that are both; `squares_C` is the sum of the squared weights.
    """
    hits_CQ, n_CQ, weight_CQ, judge_CQ, label_CQ, both_CQ = (
        np.asarray(a, dtype=np.float64) for a in (hits_CQ, n_CQ, weight_CQ, judge_CQ, label_CQ, both_CQ)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        n_C, weight_C = n_CQ.sum(1), weight_CQ.sum(1)
        labelled_C = weight_C**2 / np.asarray(squares_C, dtype=np.float64)  # Kish's effective number
        f_C, g_C, y_C = hits_CQ.sum(1) / n_C, judge_CQ.sum(1) / weight_C, label_CQ.sum(1) / weight_C
        covariance_C, variance_C = both_CQ.sum(1) / weight_C - y_C * g_C, g_C * (1 - g_C)
        tuning_C = np.where(variance_C > 0, np.clip(covariance_C / variance_C, 0.0, 1.0), 0.0)
        raw_C = tuning_C * f_C + y_C - tuning_C * g_C
        value_C = np.clip(raw_C, 0.0, 1.0)
        residual_CQ = label_CQ - y_C[:, None] * weight_CQ - tuning_C[:, None] * (judge_CQ - g_C[:, None] * weight_CQ)
        influence_CQ = residual_CQ / weight_C[:, None] + tuning_C[:, None] * (
            (hits_CQ - f_C[:, None] * n_CQ) / n_C[:, None]
        )
        questions_C = np.count_nonzero(n_CQ + weight_CQ, axis=1).astype(np.float64)
        measured_C = questions_C / (questions_C - 1) * (influence_CQ**2).sum(1)
        doubt_C = y_C * (1 - y_C) - 2 * tuning_C * covariance_C + tuning_C**2 * variance_C
        doubt_C = (doubt_C * labelled_C + 1) / (labelled_C + 1)
        independent_C = doubt_C / labelled_C + tuning_C**2 * f_C * (1 - f_C) / n_C
        centre_C = (value_C * labelled_C + 0.5) / (labelled_C + 1)
        binomial_C = centre_C * (1 - centre_C)
        prior_C = independent_C + RHO * binomial_C * (weight_CQ**2).sum(1) / weight_C**2
        df_C = questions_C - 1
        moderated_C = np.where(df_C > 0, (df_C * np.nan_to_num(measured_C) + NU * prior_C) / (df_C + NU), prior_C)
        effective_C = binomial_C / np.maximum(moderated_C, independent_C)
        low_C, high_C = wilson(value_C, effective_C, t_quantile(df_C + NU, confidence))
    return Powered(value_C, low_C, high_C, tuning_C)
