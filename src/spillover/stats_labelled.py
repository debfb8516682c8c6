"""Prevalence from a judge's verdicts on all answers and trusted verdicts on a part chosen with known chances.

N answers, judge's verdict j_i (0 or 1) on each; a part L of them has trusted verdicts y_i and was chosen with chances
p_i. With weights w_i = c / p_i, c such that they sum to N:

    ppi(l)   = 1/N sum_all l j_i + 1/N sum_L w_i (y_i - l j_i)         (the difference estimator, Sarndal et al. 1992;
                                                                        prediction-powered inference, Angelopoulos 2023)
    l        = cov_w(y, j) / var_w(j) on L, within [0, 1]              (power tuning as in PPI++ where L is part of all)
    rogan-gladen = (rate + spec - 1) / (sens + spec - 1), with sens = sum_L w y j / sum_L w y and
                   spec = sum_L w (1 - y)(1 - j) / sum_L w (1 - y)     (Rogan and Gladen 1978)

ppi is the mean of one number an answer, l j_i + [i in L] w_i (y_i - l j_i), so its interval is that of a mean clustered
by question (`stats.clustered_means`), which counts that both parts come from the same questions. Rogan-Gladen is
resampled over questions with sens and spec (`agreement.Resampler`). Shares, within [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spillover import stats
from spillover.agreement import Resampler
from spillover.records import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NONE = Estimate(value=None, low=None, high=None)


@dataclass(frozen=True)
class Corrected:
    """`power`: l above. None where the labelled part has no answer of a kind that the figure needs."""

    raw: Estimate
    rogan_gladen: Estimate
    ppi: Estimate
    sensitivity: float | None
    specificity: float | None
    power: float | None


def corrected(
    judged_N: NDArray[np.bool_],
    question_N: Ints,
    labelled_M: Ints,
    trusted_M: NDArray[np.bool_],
    chance_M: Floats,
    confidence: float,
    draws: int,
    rng: np.random.Generator,
) -> Corrected:
    """Raw and corrected prevalence; `labelled_M` are the places in N of the labelled answers."""
    n, questions = len(judged_N), int(question_N.max(initial=0)) + 1
    j_N = judged_N.astype(np.float64)
    raw = stats.clustered_rates(_by(question_N, j_N, questions), _by(question_N, np.ones(n), questions))
    low_C, high_C = stats.rate_intervals(raw, confidence)
    plain = estimate(float(raw.value_C[0]), float(low_C[0]), float(high_C[0]))
    if not len(labelled_M):
        return Corrected(plain, NONE, NONE, None, None, None)
    y_M, j_M = trusted_M.astype(np.float64), j_N[labelled_M]
    w_M = 1 / chance_M
    w_M *= n / w_M.sum()
    power = tuned(y_M, j_M, w_M)
    pseudo_N = power * j_N
    np.add.at(pseudo_N, labelled_M, w_M * (y_M - power * j_M))
    means = stats.clustered_means(_by(question_N, pseudo_N, questions), _by(question_N, np.ones(n), questions))
    low_C, high_C = stats.mean_intervals(means, confidence)
    ppi = estimate(float(means.value_C[0]), float(low_C[0]), float(high_C[0]))
    parts = (w_M * y_M * j_M, w_M * y_M, w_M * (1 - y_M) * (1 - j_M), w_M * (1 - y_M))
    sums_QK = np.stack(
        [_by(question_N, x_N, questions) for x_N in (j_N, np.ones(n))]
        + [_by(question_N[labelled_M], x_M, questions) for x_M in parts],
        axis=1,
    )
    present = np.flatnonzero(sums_QK[:, 1])
    resampler = Resampler.of(len(present), confidence, draws, rng)
    hits_B, n_B, true_B, yes_B, false_B, no_B = (resampler.weights_BQ @ sums_QK[present]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity_B, specificity_B = true_B / yes_B, false_B / no_B
        informed_B = sensitivity_B + specificity_B - 1
        rate_B = np.where(informed_B > 0, (hits_B / n_B + specificity_B - 1) / informed_B, np.nan)
    return Corrected(
        raw=plain,
        rogan_gladen=resampler.estimate(np.clip(rate_B, 0, 1)),
        ppi=ppi,
        sensitivity=_known(float(sensitivity_B[0])),
        specificity=_known(float(specificity_B[0])),
        power=power,
    )


def tuned(y_M: Floats, j_M: Floats, w_M: Floats) -> float:
    """The weight on the judge's verdicts that makes ppi's variance least; 0 where they do not vary."""
    share_M = w_M / w_M.sum()
    j_mean = float(share_M @ j_M)
    variance = float(share_M @ (j_M - j_mean) ** 2)
    if variance < 1e-12:
        return 0.0
    covariance = float(share_M @ ((j_M - j_mean) * (y_M - float(share_M @ y_M))))
    return min(1.0, max(0.0, covariance / variance))


def estimate(value: float, low: float, high: float) -> Estimate:
    """A share with its limits, cut to [0, 1]; limits that cannot be told are None."""
    value, low, high = (min(1.0, max(0.0, x)) if not np.isnan(x) else x for x in (value, low, high))
    return Estimate(value=_known(value), low=_known(low), high=_known(high))


def _by(question_N: Ints, values_N: Floats, questions: int) -> Floats:
    return np.bincount(question_N, values_N, minlength=questions).astype(np.float64)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
