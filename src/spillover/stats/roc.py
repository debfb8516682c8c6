"""How well features tell two classes apart: AUC and ROC, and logistic regression scores of rows held out of the fit.

    AUC = P(x of a positive > x of a negative) + P(equal) / 2

0.5 = the feature says nothing; below it, positives have the lower values. `auc_error`: Hanley and McNeil (1982).

Over the cells of a study, "positive" means high: the target is above the cut, which is the median over domains of the
mean of a domain's cells, so every domain counts once. The cut is that of the sample; resamples and permutations do not
move it. Pairs within a domain count, so a feature that separates doses has an AUC too, which permutations of whole
domains (`spillover.stats.association`) do not count as evidence. Intervals, also of both rates along the curve:
bootstrap over whole domains, with percentiles taken further out where domains are few, at
Phi(-t(D - 1) sqrt(D / (D - 1))) (the expanded percentile interval of Hesterberg 2015).

`held_out_scores` are those of ridge logistic regression on features standardised by the training rows:

    min_w,b  mean[ln(1 + exp(x.w + b)) - y (x.w + b)] + RIDGE / 2 |w|^2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from spillover.stats import Bools, Floats, Ints
from spillover.stats.clustered import t_quantile

Span = tuple[float, float, float]  # value, low, high
CUTS = 9  # deciles of the feature at which both rates get an interval
RIDGE = 0.01  # of logistic regression; rows count as a mean
FOLDS = 5


@dataclass(frozen=True)
class HighAUC:
    """NaN where it is undefined. `curve`: (x, false positive rate, true positive rate) of "high when above x"."""

    cut: float
    count: int  # cells that are high
    auc: float
    low: float
    high: float
    p: float
    p_max: float
    curve: tuple[tuple[float, Span, Span], ...]


def high_cut(target_N: Floats, domain_N: Ints) -> float:
    """The median over domains of the mean of a domain's cells."""
    return float(np.median([target_N[domain_N == d].mean() for d in np.unique(domain_N)]))


def expanded(confidence: float, domains: int) -> float:
    """The share of resamples between the ends of an interval of this confidence."""
    t = t_quantile(domains - 1, confidence) * np.sqrt(domains / (domains - 1))
    return 1 - 2 * float(scipy_stats.norm.cdf(-t))


def weighted_auc(x_KN: Floats, high_N: Bools, weight_BN: Floats) -> Floats:
    """(K, B): AUC of the sample in which unit i stands weight_BN[b, i] times; NaN where it has one side only."""
    up_BH, down_BL = weight_BN[:, high_N], weight_BN[:, ~high_N]
    pairs_B = up_BH.sum(axis=1) * down_BL.sum(axis=1)
    won_KB = np.empty((len(x_KN), len(weight_BN)))
    for k, x_N in enumerate(x_KN):
        a_H1, b_L = x_N[high_N][:, None], x_N[~high_N]
        won_KB[k] = ((up_BH @ ((a_H1 > b_L) + 0.5 * (a_H1 == b_L))) * down_BL).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return won_KB / np.where(pairs_B > 0, pairs_B, np.nan)


def auc(x_N: ArrayLike, high_N: Bools) -> float:
    """AUC of one feature under one labelling; NaN where it has one side only."""
    return float(paired_auc(np.asarray(x_N, dtype=np.float64)[None], high_N[None])[0])


def auc_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC from that many independent rows."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return float(np.sqrt(variance / (positives * negatives)))


def held_out_scores(x_NF: Floats, y_N: Bools, group_N: Ints) -> Floats:
    """Log-odds of every row by a fit on the other folds; rows of one group, numbered from 0, share a fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fold_N = np.random.default_rng(0).permutation(int(group_N.max()) + 1)[group_N] % FOLDS
    fitted = len(y_N) * (FOLDS - 1) / FOLDS  # scikit-learn sums over rows where the objective takes their mean
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (RIDGE * fitted), solver="newton-cholesky"))
    scores = cross_val_predict(model, x_NF, y_N, cv=PredefinedSplit(fold_N), method="decision_function")
    return np.asarray(scores, dtype=np.float64)


def rank_auc(rank_XN: Floats, high_BN: Bools) -> Floats:
    """(X, B): AUC from mid-ranks over units, under each labelling; all labellings must have as many that are high."""
    n_B, size = high_BN.sum(axis=1), high_BN.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (rank_XN @ high_BN.T.astype(np.float64) - n_B * (n_B + 1) / 2) / (n_B * (size - n_B))


def paired_auc(x_BN: Floats, high_BN: Bools) -> Floats:
    """(B,): AUC of each row under its own labelling."""
    n_B, size = high_BN.sum(axis=1), high_BN.shape[1]
    sum_B = (scipy_stats.rankdata(x_BN, axis=1) * high_BN).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (sum_B - n_B * (n_B + 1) / 2) / (n_B * (size - n_B))


def curve(x_N: Floats, high_N: Bools, weight_BN: Floats, confidence: float) -> tuple[tuple[float, Span, Span], ...]:
    """Both rates with their intervals at deciles of the feature; empty where one side is missing."""
    if not 0 < high_N.sum() < len(high_N):
        return ()
    cut_C = np.unique(np.quantile(x_N, np.arange(1, CUTS + 1) / (CUTS + 1), method="lower"))
    above_NC = x_N[:, None] > cut_C
    false, true = (_share(above_NC[side_N], weight_BN[:, side_N], confidence) for side_N in (~high_N, high_N))
    return tuple(zip(cut_C.tolist(), false, true, strict=True))


def _share(above_nC: Bools, weight_Bn: Floats, confidence: float) -> list[Span]:
    """Share above each cut, with its interval over the resamples that have this side."""
    kept_Bn = weight_Bn[weight_Bn.sum(axis=1) > 0]
    share_BC = (kept_Bn @ above_nC) / kept_Bn.sum(axis=1, keepdims=True)
    low_C, high_C = np.percentile(share_BC, [50 * (1 - confidence), 50 * (1 + confidence)], axis=0)
    return list(zip(above_nC.mean(axis=0).tolist(), low_C.tolist(), high_C.tolist(), strict=True))
