"""How well a feature tells cells of a high rate from the others: AUC and ROC over cells, with domains as the units.

A cell is high when its target is above the cut: the median over domains of the mean of a domain's cells, in which every
domain counts once. The cut is that of the sample; resamples and permutations leave it where it is.

    AUC = P(x of a high cell > x of another cell) + P(equal) / 2

0.5 = the feature says nothing; below it, high cells have the lower values. Pairs within a domain count, so that a
feature which tells doses from each other has an AUC, too; what permutes whole domains (`stats_association`) does not
count that as evidence. Intervals, also of both rates along the curve: bootstrap over whole domains, with percentiles
further out for few of them, at Phi(-t(D - 1) sqrt(D / (D - 1))) (the expanded percentile interval of Hesterberg 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Span = tuple[float, float, float]  # value, low, high
CUTS = 9  # deciles of the feature at which both rates get an interval


@dataclass(frozen=True)
class HighAUC:
    """NaN where it cannot be told. `curve`: (x, false positive rate, true positive rate) of "high when above x"."""

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
    t = scipy_stats.t.ppf((1 + confidence) / 2, domains - 1) * np.sqrt(domains / (domains - 1))
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
