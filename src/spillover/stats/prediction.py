"""Can features known before training predict the target of a domain that the fit has never seen?

Every prediction is of a cell whose whole domain is left out: centring, scaling, filling of gaps (by the mean) and the
choice of the ridge penalty all happen inside the remaining domains. Rows of one domain on both sides of a split would
let a model recognise the domain in place of predicting it.

- ridge: minimise |y - mean - X w|^2 + alpha |w|^2, X standardised; alpha from `ALPHAS` by an inner leave-one-domain-out
  (least squared error). Predictions are linear in y, so that all permuted targets are fitted at once.
- boosting: 30 trees of depth 2, rate 0.2, a random sqrt(K) of the features at each split, as they are: nothing is
  chosen, so nothing needs an inner loop.
- error: mean absolute, compared with that of always predicting the mean of the other domains' cells.
- p: one-sided, the share of permutations of whole domains (see `spillover.stats.association`) in which the procedure,
  refitted, has as small a ratio of the two errors. Predicting the mean of the others is negatively correlated with the
  target by construction, so the correlation of left-out predictions has no null at 0 and gets no p-value;
- AUC: of the left-out predictions, for cells with a high target (`spillover.stats.roc`). Its p is one-sided, from the
  same refits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spillover.stats import Floats, Ints
from spillover.stats.association import (
    FEWEST,
    Permuted,
    bootstrap_limits,
    exchangeable,
    shuffled,
    weighted_spearman,
)
from spillover.stats.roc import HighAUC, curve, expanded, high_cut, paired_auc, weighted_auc

BOOSTING: dict[str, Any] = {"n_estimators": 30, "max_depth": 2, "learning_rate": 0.2, "max_features": "sqrt"}
ALPHAS = np.logspace(-1, 5, 13)
Procedure = Callable[[Floats, Floats, Ints], Floats]
"""(x_NK, y_NB, domain_N) -> predictions (N, B), each of units whose domain was left out."""


@dataclass(frozen=True)
class Assessment:
    """`prediction_N`: of each unit by a fit without its domain."""

    prediction_N: Floats
    target_N: Floats
    domains: int
    error: float
    error_of_mean: float
    p: float
    permuted: Permuted
    spearman: float
    low: float
    high: float
    leave_one_out_low: float
    leave_one_out_high: float
    above: HighAUC


@dataclass(frozen=True)
class Fit:
    """A linear predictor in the features' own units: value = intercept + sum(weight (x - centre) / scale)."""

    centre_K: Floats
    scale_K: Floats
    weight_K: Floats
    intercept: float
    alpha: float


def assess(
    procedure: Procedure,
    features_NK: ArrayLike,
    target_N: ArrayLike,
    domain_N: Sequence[str],
    slot_N: Sequence[str],
    draws: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
) -> Assessment:
    """Left-out predictions of one procedure, and how they compare with none.

    Every target must be a number; fewer than three domains are an error.
    """
    x_NK, y_N = np.asarray(features_NK, np.float64), np.asarray(target_N, np.float64)
    labels, index = np.unique(np.asarray(domain_N), return_inverse=True)
    domain, domains = index.astype(np.int64), len(labels)
    if domains < FEWEST:
        raise ValueError(f"{domains} domains: at least {FEWEST} are needed to leave one out twice")
    rng = np.random.default_rng(seed)
    said_N = procedure(x_NK, y_N[:, None], domain)[:, 0]
    weight_BD = rng.multinomial(domains, np.full(domains, 1 / domains), size=2000).astype(np.float64)
    low_1, high_1 = bootstrap_limits(weighted_spearman(said_N[None], y_N, weight_BD[:, domain]), confidence)
    without_D = weighted_spearman(said_N[None], y_N, 1.0 - np.eye(domains)[:, domain])[0]
    units = exchangeable(_filled(x_NK).T, y_N, domain, np.asarray(slot_N))
    x_NK = x_NK if units.permuted == "blocks" else units.x_KN.T
    null_NB = np.column_stack([units.y_N, shuffled(units, draws, rng).T])
    null_said_NB = procedure(x_NK, null_NB, units.domain_N)
    error_B = np.abs(null_said_NB - null_NB).mean(axis=0)
    mean_B = np.abs(mean_of_others(null_NB, units.domain_N) - null_NB).mean(axis=0)
    ratio_B = error_B / np.where(mean_B > 0, mean_B, 1.0)
    cut, wide = high_cut(y_N, domain), expanded(confidence, domains)
    high_N, every_BN = y_N > cut, np.vstack([np.ones(len(y_N)), weight_BD[:, domain]])
    auc_1B = weighted_auc(said_N[None], high_N, every_BN)
    auc_low_1, auc_high_1 = bootstrap_limits(auc_1B[:, 1:], wide)
    null_high_NB = null_NB > cut
    null_auc_B = paired_auc(null_said_NB.T, null_high_NB.T)
    return Assessment(
        prediction_N=said_N,
        target_N=y_N,
        domains=domains,
        error=float(np.abs(said_N - y_N).mean()),
        error_of_mean=float(np.abs(mean_of_others(y_N[:, None], domain)[:, 0] - y_N).mean()),
        p=float((1 + (ratio_B[1:] <= ratio_B[0] + 1e-9).sum()) / (draws + 1)),
        permuted=units.permuted,
        spearman=float(weighted_spearman(said_N[None], y_N, np.ones((1, len(y_N))))[0, 0]),
        low=float(low_1[0]),
        high=float(high_1[0]),
        leave_one_out_low=float(without_D.min()),
        leave_one_out_high=float(without_D.max()),
        above=HighAUC(
            cut=cut,
            count=int(high_N.sum()),
            auc=float(auc_1B[0, 0]),
            low=float(auc_low_1[0]),
            high=float(auc_high_1[0]),
            p=float((1 + (null_auc_B[1:] >= null_auc_B[0] - 1e-9).sum()) / (draws + 1))
            if np.isfinite(null_auc_B[0])
            else float("nan"),
            p_max=float("nan"),
            curve=curve(said_N, high_N, every_BN[1:], wide),
        ),
    )


def mean_of_others(y_NB: Floats, domain_N: Ints) -> Floats:
    """For each unit the mean of all units of other domains."""
    same_NN = domain_N[:, None] == domain_N[None]
    return (~same_NN @ y_NB) / (~same_NN).sum(axis=1, keepdims=True)


def ridge(x_NK: Floats, y_NB: Floats, domain_N: Ints) -> Floats:
    """Nested leave-one-domain-out ridge."""
    result_NB = np.empty_like(y_NB)
    for d in np.unique(domain_N):
        inside = domain_N != d
        best_B = choose_alpha(x_NK[inside], y_NB[inside], domain_N[inside])
        said_AnB = _all_alphas(x_NK[inside], y_NB[inside], x_NK[~inside])
        result_NB[~inside] = said_AnB[best_B, :, np.arange(len(best_B))].T
    return result_NB


def choose_alpha(x_NK: Floats, y_NB: Floats, domain_N: Ints) -> NDArray[np.intp]:
    """(B,): place in ALPHAS with the least squared error over domains left out."""
    error_AB = np.zeros((len(ALPHAS), y_NB.shape[1]))
    for d in np.unique(domain_N):
        inside = domain_N != d
        said_AnB = _all_alphas(x_NK[inside], y_NB[inside], x_NK[~inside])
        error_AB += ((said_AnB - y_NB[~inside]) ** 2).sum(axis=1)
    return error_AB.argmin(axis=0)


def fit_ridge(features_NK: ArrayLike, target_N: ArrayLike, domain_N: Sequence[str]) -> Fit:
    """The ridge that is kept: fitted to all units, with the penalty chosen by leave-one-domain-out."""
    x_NK, y_N = np.asarray(features_NK, np.float64), np.asarray(target_N, np.float64)
    domain = np.unique(np.asarray(domain_N), return_inverse=True)[1].astype(np.int64)
    alpha = float(ALPHAS[choose_alpha(x_NK, y_N[:, None], domain)[0]])
    centre_K, scale_K = _scaler(x_NK)
    x_NK = _standardised(x_NK, centre_K, scale_K)
    u, s, vt = np.linalg.svd(x_NK, full_matrices=False)
    weight_K = vt.T @ (s / (s**2 + alpha) * (u.T @ (y_N - y_N.mean())))
    return Fit(centre_K, scale_K, weight_K, float(y_N.mean()), alpha)


def boosting(x_NK: Floats, y_NB: Floats, domain_N: Ints) -> Floats:
    """Leave-one-domain-out gradient boosting, target by target."""
    from sklearn.ensemble import GradientBoostingRegressor

    result_NB = np.empty_like(y_NB)
    for d in np.unique(domain_N):
        inside = domain_N != d
        scaler = _scaler(x_NK[inside])
        x_train, x_test = _standardised(x_NK[inside], *scaler), _standardised(x_NK[~inside], *scaler)
        for b in range(y_NB.shape[1]):
            model = GradientBoostingRegressor(**BOOSTING, random_state=0)
            result_NB[~inside, b] = model.fit(x_train, y_NB[inside, b]).predict(x_test)
    return result_NB


PREDICTORS: dict[str, Procedure] = {"ridge": ridge, "boosting": boosting}


def _all_alphas(x_NK: Floats, y_NB: Floats, new_nK: Floats) -> Floats:
    """(A, n, B): predictions for new units at every penalty."""
    scaler = _scaler(x_NK)
    u, s, vt = np.linalg.svd(_standardised(x_NK, *scaler), full_matrices=False)
    mean_B = y_NB.mean(axis=0)
    shrink_AR = s / (s**2 + ALPHAS[:, None])
    new_nR = _standardised(new_nK, *scaler) @ vt.T
    return (new_nR[None] * shrink_AR[:, None]) @ (u.T @ (y_NB - mean_B)) + mean_B


def _scaler(x_NK: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of what is known; 0 and 1 where nothing is, or nothing varies."""
    known_NK = ~np.isnan(x_NK)
    count_K = np.maximum(1, known_NK.sum(axis=0))
    centre_K = np.where(known_NK, x_NK, 0.0).sum(axis=0) / count_K
    scale_K = np.sqrt((np.where(known_NK, x_NK - centre_K, 0.0) ** 2).sum(axis=0) / count_K)
    return centre_K, np.where(scale_K > 1e-12 * np.maximum(1.0, np.abs(centre_K)), scale_K, 1.0)


def _standardised(x_NK: Floats, centre_K: Floats, scale_K: Floats) -> Floats:
    """A gap, and a feature that did not vary, is 0."""
    return np.where(np.isnan(x_NK), 0.0, (x_NK - centre_K) / scale_K)


def _filled(x_NK: Floats) -> Floats:
    return np.where(np.isnan(x_NK), _scaler(x_NK)[0], x_NK)
