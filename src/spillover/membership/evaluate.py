"""How well scores separate members from non-members, with intervals and p-values, and what the texts alone give away.

AUC = P(score of a member > score of a non-member), ties half (Mann-Whitney U / pairs). Over several strata, such as
domains, only pairs inside a stratum are compared: sum of U over sum of pairs. So no difference between domains passes
for membership. TPR at 1 % FPR: share of members above the lowest threshold that at most 1 % of the non-members reach;
with fewer than 100 of those, none may. Intervals: percentile bootstrap of members and of non-members within strata.

Several metrics on the same texts: the p-value of each is that of the largest standardised AUC of all of them when
labels are permuted within strata (Westfall and Young 1993), one-sided, as every score declares its sign.

Blind baseline: a classifier that sees the texts and no model (TF-IDF of words and word pairs, logistic regression,
out-of-fold scores over five stratified folds of questions). Where it separates the two sides, they differ in content,
and a metric's AUC may not measure memorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from spillover.stats import Floats

MAX_FPR = 0.01
BLIND_FOLDS = 5


@dataclass(frozen=True)
class Separation:
    """`missing`: texts without a score, which count on neither side. NaN where a side is empty."""

    members: int
    nonmembers: int
    missing: int
    auc: float
    auc_low: float
    auc_high: float
    tpr: float
    tpr_low: float
    tpr_high: float


def separation(
    score_N: ArrayLike,
    member_N: ArrayLike,
    stratum_N: ArrayLike | None = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Separation:
    """AUC and TPR at 1 % FPR of one metric, with intervals."""
    score_N, member_N = np.asarray(score_N, dtype=np.float64), np.asarray(member_N, dtype=bool)
    stratum_N = np.zeros(len(score_N), dtype=np.int64) if stratum_N is None else np.asarray(stratum_N)
    known_N = ~np.isnan(score_N)
    missing = int((~known_N).sum())
    score_N, member_N, stratum_N = score_N[known_N], member_N[known_N], stratum_N[known_N]
    parts = [
        (score_N[(stratum_N == s) & member_N], score_N[(stratum_N == s) & ~member_N]) for s in np.unique(stratum_N)
    ]
    parts = [(inside, outside) for inside, outside in parts if len(inside) and len(outside)]
    members, nonmembers = (sum(len(part[side]) for part in parts) for side in (0, 1))
    if not parts:
        return Separation(members, nonmembers, missing, *(float("nan"),) * 6)
    rng = np.random.default_rng(seed)
    ones = [(np.ones((1, len(inside))), np.ones((1, len(outside)))) for inside, outside in parts]
    weights = [(_resample(len(inside), draws, rng), _resample(len(outside), draws, rng)) for inside, outside in parts]
    tail = [50 * (1 - confidence), 50 * (1 + confidence)]
    auc_low, auc_high = np.percentile(_auc(parts, weights), tail)
    tpr_low, tpr_high = np.percentile(_tpr(parts, weights), tail)
    return Separation(
        members, nonmembers, missing,
        float(_auc(parts, ones)[0]), float(auc_low), float(auc_high),
        float(_tpr(parts, ones)[0]), float(tpr_low), float(tpr_high),
    )  # fmt: skip


def roc(score_N: ArrayLike, member_N: ArrayLike) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    score_N, member_N = np.asarray(score_N, dtype=np.float64), np.asarray(member_N, dtype=bool)
    known_N = ~np.isnan(score_N)
    score_N, member_N = score_N[known_N], member_N[known_N]
    order = np.argsort(-score_N, kind="stable")
    score_N, member_N = score_N[order], member_N[order]
    last_N = np.append(np.flatnonzero(np.diff(score_N)), len(score_N) - 1)  # equal scores cross the threshold together
    fpr, tpr = (
        np.concatenate([[0.0], np.cumsum(side_N)[last_N] / max(1, side_N.sum())]) for side_N in (~member_N, member_N)
    )
    return fpr, tpr


def mean_roc(score_N: ArrayLike, member_N: ArrayLike, stratum_N: ArrayLike, points: int = 51) -> tuple[Floats, Floats]:
    """False positive rates from 0 to 1 and the true positive rate at each, averaged over strata by their members.

    Vertical averaging (Fawcett 2006): no threshold is shared by strata, just as no pair is in the AUC. Empty where no
    stratum has both sides.
    """
    score_N, member_N, stratum_N = np.asarray(score_N, np.float64), np.asarray(member_N, bool), np.asarray(stratum_N)
    fpr_P = np.linspace(0, 1, points)
    total, sums_P = 0, np.zeros(points)
    for s in np.unique(stratum_N):
        rows = (stratum_N == s) & ~np.isnan(score_N)
        members = int(member_N[rows].sum())
        if members and members < rows.sum():
            fpr, tpr = roc(score_N[rows], member_N[rows])
            last = np.append(fpr[1:] > fpr[:-1], True)  # where the curve climbs, its upper end counts
            sums_P += members * np.interp(fpr_P, fpr[last], tpr[last])
            total += members
    return (fpr_P, sums_P / total) if total else (np.zeros(0), np.zeros(0))


def max_statistic_p(
    scores_KN: ArrayLike, member_N: ArrayLike, stratum_N: ArrayLike, draws: int = 2000, seed: int = 0
) -> Floats:
    """Familywise p of each of K metrics over the same N texts; NaN for a metric that has no score for some text.

    The statistic is the sum of members' ranks within strata, centred and scaled by its permutation distribution.
    """
    scores_KN, member_N = np.atleast_2d(np.asarray(scores_KN, dtype=np.float64)), np.asarray(member_N, dtype=bool)
    stratum_N = np.asarray(stratum_N)
    whole_K = ~np.isnan(scores_KN).any(axis=1)
    result_K = np.full(len(scores_KN), np.nan)
    groups = [np.flatnonzero(stratum_N == s) for s in np.unique(stratum_N)]
    rank_KN = np.zeros_like(scores_KN[whole_K])
    for rows in groups:
        rank_KN[:, rows] = rankdata(scores_KN[whole_K][:, rows], axis=1)
    rng = np.random.default_rng(seed)
    label_BN = np.tile(member_N, (draws, 1))
    for rows in groups:
        label_BN[:, rows] = rng.permuted(label_BN[:, rows], axis=1)
    null_KB = rank_KN @ label_BN.T
    centre_K, spread_K = null_KB.mean(axis=1), null_KB.std(axis=1)
    spread_K = np.where(spread_K > 0, spread_K, 1.0)
    observed_K = (rank_KN @ member_N - centre_K) / spread_K
    if len(observed_K):
        largest_B = ((null_KB - centre_K[:, None]) / spread_K[:, None]).max(axis=0)
        result_K[whole_K] = (1 + (largest_B[None] >= observed_K[:, None] - 1e-9).sum(axis=1)) / (draws + 1)
    return result_K


def blind_scores(texts: Sequence[str], member_N: ArrayLike, group_N: ArrayLike, seed: int = 0) -> Floats:
    """How much each text looks like a member to a classifier fitted on the others; NaN where none can be fitted.

    Texts of one group, the answers to one question, share a fold: else a flawed answer gives its good twin away.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    member_N, group_N = np.asarray(member_N, dtype=bool), np.asarray(group_N)
    folds = min(BLIND_FOLDS, *(len(np.unique(group_N[side])) for side in (member_N, ~member_N)))
    if folds < 2 or not any(len(word) > 1 for text in texts for word in text.split()):
        return np.full(len(member_N), np.nan)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, class_weight="balanced")
    )
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = cross_val_predict(model, list(texts), member_N, groups=group_N, cv=split, method="decision_function")
    return np.asarray(found, dtype=np.float64)


def _resample(n: int, draws: int, rng: np.random.Generator) -> Floats:
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def _auc(parts: Sequence[tuple[Floats, Floats]], weights: Sequence[tuple[Floats, Floats]]) -> Floats:
    """(B,): each draw gives every text a weight."""
    wins = pairs = np.zeros(1)
    for (inside_M, outside_N), (weight_BM, weight_BN) in zip(parts, weights, strict=True):
        order = np.sort(outside_N)
        column = np.argsort(outside_N, kind="stable")
        below_BN = np.pad(np.cumsum(weight_BN[:, column], axis=1), ((0, 0), (1, 0)))
        left_M, right_M = np.searchsorted(order, inside_M, "left"), np.searchsorted(order, inside_M, "right")
        beaten_BM = (below_BN[:, left_M] + below_BN[:, right_M]) / 2
        wins = wins + (weight_BM * beaten_BM).sum(axis=1)
        pairs = pairs + weight_BM.sum(axis=1) * weight_BN.sum(axis=1)
    return wins / pairs


def _tpr(parts: Sequence[tuple[Floats, Floats]], weights: Sequence[tuple[Floats, Floats]]) -> Floats:
    """(B,): TPR at 1 % FPR within each stratum, averaged over members."""
    found = total = np.zeros(1)
    for (inside_M, outside_N), (weight_BM, weight_BN) in zip(parts, weights, strict=True):
        column = np.argsort(-outside_N, kind="stable")
        ordered_N = outside_N[column]
        allowed_B1 = MAX_FPR * weight_BN.sum(axis=1, keepdims=True) + 1e-9
        over_BN = np.cumsum(weight_BN[:, column], axis=1) > allowed_B1
        threshold_B = ordered_N[over_BN.argmax(axis=1)]  # the first non-member too many: members must be above it
        found = found + (weight_BM * (inside_M[None] > threshold_B[:, None])).sum(axis=1)
        total = total + weight_BM.sum(axis=1)
    return found / total
