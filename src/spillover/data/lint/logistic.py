"""How well features tell two classes apart: ridge logistic regression, cross-validated, and the error of its AUC.

Minimises mean[ln(1 + exp(x.w + b)) - y (x.w + b)] + (ridge / 2) |w|^2 over standardised x, by Newton steps.
The standard error of an AUC is that of Hanley and McNeil 1982 (Radiology 143).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
STEPS = 50
RIDGE = 0.01


def fit(x_NF: Floats, y_N: NDArray[np.bool_], ridge: float = RIDGE) -> Floats:
    """Weights, the intercept last."""
    design_NG = np.column_stack([x_NF, np.ones(len(x_NF))])
    penalty_G = np.append(np.full(x_NF.shape[1], ridge), 1e-9)
    weights_G = np.zeros(design_NG.shape[1])
    for _ in range(STEPS):
        p_N = expit(design_NG @ weights_G)
        gradient_G = design_NG.T @ (p_N - y_N) / len(y_N) + penalty_G * weights_G
        curvature_GG = (design_NG.T * (p_N * (1 - p_N))) @ design_NG / len(y_N) + np.diag(penalty_G)
        step_G = np.linalg.solve(curvature_GG, gradient_G)
        weights_G -= step_G / max(1.0, float(np.abs(step_G).max()) / 5)
        if np.abs(step_G).max() < 1e-8:
            break
    return weights_G


def cross_validated(x_NF: Floats, y_N: NDArray[np.bool_], groups_N: NDArray[np.int64], folds: int = 5) -> Floats:
    """Out-of-fold scores; rows of one group share a fold; features are standardised by the other folds."""
    scores_N = np.zeros(len(y_N))
    order = np.random.default_rng(0).permutation(int(groups_N.max()) + 1)
    fold_N = order[groups_N] % folds
    for fold in range(folds):
        held_N = fold_N == fold
        inside_NF = x_NF[~held_N]
        mean_F, std_F = inside_NF.mean(axis=0), inside_NF.std(axis=0)
        std_F[std_F == 0] = 1.0
        weights_G = fit((inside_NF - mean_F) / std_F, y_N[~held_N])
        scores_N[held_N] = ((x_NF[held_N] - mean_F) / std_F) @ weights_G[:-1] + weights_G[-1]
    return scores_N


def auc_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of an area from that many independent rows."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return float(np.sqrt(variance / (positives * negatives)))
