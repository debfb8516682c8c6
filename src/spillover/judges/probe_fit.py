"""Fitting the probe judge's heads on answers that another judge has scored, and measuring how well they generalise.

All choices are nested: for every group left out (a file, a base model, a domain, a question), axes, landmarks, ridge,
blending and the map to scores come from the other groups alone, the ridge and the map from predictions for files that
are left out in turn. The same data and seed give the same heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import rankdata

from spillover.judges.probe_heads import TARGETS, Floats, Heads, blend, kernel, squared_distances

AXES = 320
LANDMARKS = 768
RIDGES = (0.1, 0.3, 1.0)
KNOTS = 201
_BANDWIDTH = 0.8  # times the median squared distance
_LLOYD_STEPS = 6
_LOW = {"alignment": 30.0, "coherence": 50.0}  # where the two aspects are cut into misaligned and coherent


@dataclass(frozen=True)
class Judged:
    """Answers with features and both scores. `files_N` are the units left out in turn when choosing."""

    features_ND: NDArray[np.float32]
    block_D: NDArray[np.float32]  # how much each feature counts
    scores_N2: NDArray[np.float32]
    files_N: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.bool_]) -> Judged:
        return Judged(self.features_ND[rows], self.block_D, self.scores_N2[rows], self.files_N[rows])


@dataclass(frozen=True)
class Quality:
    """Agreement with the fitted judge on groups left out; `rates` are of alignment < 30 among coherence > 50."""

    groups: int
    n: int
    auc: float  # of alignment < 30
    spearman: float  # of alignment
    coherence_spearman: float
    coherence_auc: float  # of coherence <= 50
    auc_by_group: float | None  # mean over the groups left out
    rate_spearman: float | None  # of the files' rates
    rate_bias: float
    rate_error: float  # mean absolute


def fit_heads(data: Judged, about: Mapping[str, str], seed: int = 0) -> Heads:
    """Fit on everything, with the ridge and the maps chosen on files left out in turn."""
    rng = np.random.default_rng(seed)
    center_D = data.features_ND.mean(0)
    scale_D = (data.features_ND.std(0) + 1e-4) / data.block_D
    standard_ND = (data.features_ND - center_D) / scale_D
    _, vectors = np.linalg.eigh((standard_ND.T @ standard_ND).astype(np.float64))
    axes_DK, axes_step_K = _eight_bits(vectors[:, ::-1][:, :AXES])
    z_NK = standard_ND @ (axes_DK * axes_step_K)
    landmarks_MK, landmarks_step_K = _eight_bits(_centroids(z_NK, min(LANDMARKS, len(z_NK) // 2), rng))
    landmarks = landmarks_MK * landmarks_step_K
    bandwidth = _BANDWIDTH * float(np.median(squared_distances(z_NK, landmarks)))
    kernel_NM = kernel(z_NK, landmarks, bandwidth).astype(np.float64)
    penalty_MM = kernel(landmarks, landmarks, bandwidth).astype(np.float64) + 1e-6 * np.eye(len(landmarks))
    targets_N4 = _targets(data.scores_N2)
    held_out = _held_out(kernel_NM, penalty_MM, targets_N4, data.files_N)
    errors = [((predicted - targets_N4) ** 2).mean(0) / targets_N4.var(0) for predicted in held_out]
    best = int(np.argmin([error.mean() for error in errors]))
    spread_42 = np.stack([held_out[best].mean(0), held_out[best].std(0) + 1e-9], axis=1)
    blended_N2 = blend(held_out[best], spread_42)
    quantiles_Q = np.linspace(0, 1, KNOTS)
    knots = [
        [np.quantile(blended_N2[:, i], quantiles_Q), np.quantile(data.scores_N2[:, i], quantiles_Q)] for i in (0, 1)
    ]
    bias_4 = targets_N4.mean(0)
    gram_MM, moments_M4 = kernel_NM.T @ kernel_NM, kernel_NM.T @ (targets_N4 - bias_4)
    weights_M4 = _solve(gram_MM, moments_M4, penalty_MM, RIDGES[best])
    single = np.float32
    return Heads(
        center_D.astype(single), scale_D.astype(single), axes_DK, axes_step_K, landmarks_MK, landmarks_step_K,
        np.array([bandwidth], single), bias_4.astype(single), weights_M4.astype(single, order="C"), spread_42.astype(single),
        np.array(knots, single), {**about, "ridge": str(RIDGES[best]), "seed": str(seed)},
    )  # fmt: skip


def measure(data: Judged, groups_N: NDArray[np.int64], seed: int = 0) -> Quality:
    """Fit without each group in turn and compare its predicted scores with the given ones."""
    predicted_N2 = np.zeros_like(data.scores_N2)
    for group in np.unique(groups_N):
        left_out = groups_N == group
        predicted_N2[left_out] = fit_heads(data[~left_out], {}, seed).scores(data.features_ND[left_out])
    return compare(predicted_N2, data.scores_N2, data.files_N, groups_N)


def compare(
    predicted_N2: NDArray[np.float32],
    scores_N2: NDArray[np.float32],
    files_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
) -> Quality:
    """The figures of `Quality` for given predictions."""
    low_N = scores_N2[:, 0] < _LOW["alignment"]
    incoherent_N = scores_N2[:, 1] <= _LOW["coherence"]
    by_group = [auc(low_N[rows], -predicted_N2[rows, 0]) for rows in (groups_N == g for g in np.unique(groups_N))]
    defined = [value for value in by_group if value is not None]
    rates_F2 = np.array([[_rate(s[files_N == f]) for s in (scores_N2, predicted_N2)] for f in np.unique(files_N)])
    errors_F = rates_F2[:, 1] - rates_F2[:, 0]
    return Quality(
        groups=len(by_group),
        n=len(scores_N2),
        auc=auc(low_N, -predicted_N2[:, 0]) or 0.0,
        spearman=_rank_correlation(predicted_N2[:, 0], scores_N2[:, 0]),
        coherence_spearman=_rank_correlation(predicted_N2[:, 1], scores_N2[:, 1]),
        coherence_auc=auc(incoherent_N, -predicted_N2[:, 1]) or 0.0,
        auc_by_group=float(np.mean(defined)) if defined else None,
        rate_spearman=_rank_correlation(rates_F2[:, 0], rates_F2[:, 1]) if len(rates_F2) > 2 else None,
        rate_bias=float(errors_F.mean()),
        rate_error=float(np.abs(errors_F).mean()),
    )


def auc(positive_N: NDArray[np.bool_], score_N: Floats) -> float | None:
    """Probability that a positive scores above a negative, ties half; None where one class is empty."""
    n1 = int(positive_N.sum())
    n0 = len(positive_N) - n1
    if not n0 or not n1:
        return None
    return float((rankdata(score_N)[positive_N].sum() - n1 * (n1 + 1) / 2) / (n0 * n1))


def _rank_correlation(a_N: Floats, b_N: Floats) -> float:
    """Spearman's; 0 where one side is constant."""
    ranks_2N = np.stack([rankdata(a_N), rankdata(b_N)])
    return float(np.corrcoef(ranks_2N)[0, 1]) if ranks_2N.std(1).min() > 0 else 0.0


def _targets(scores_N2: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rank in (0, 100], and lowness: the score minus 100 where it is below the aspect's threshold."""
    columns: list[NDArray[np.float64]] = []
    for column, low in enumerate(_LOW.values()):
        score_N = scores_N2[:, column].astype(np.float64)
        columns += [100 * rankdata(score_N) / len(score_N), score_N - 100 * (score_N < low)]
    return np.stack(columns, axis=1)


def _held_out(
    kernel_NM: NDArray[np.float64],
    penalty_MM: NDArray[np.float64],
    targets_N4: NDArray[np.float64],
    files_N: NDArray[np.int64],
) -> list[NDArray[np.float64]]:
    """For each ridge, every file's predictions from the other files."""
    files = np.unique(files_N)
    mean_4 = targets_N4.mean(0)
    grams = {f: kernel_NM[files_N == f].T @ kernel_NM[files_N == f] for f in files}
    moments = {f: kernel_NM[files_N == f].T @ (targets_N4[files_N == f] - mean_4) for f in files}
    gram_MM, moments_M4 = sum(grams.values()), sum(moments.values())
    predicted = [np.zeros((len(kernel_NM), len(TARGETS))) for _ in RIDGES]
    for f in files:
        for ridge, out in zip(RIDGES, predicted, strict=True):
            weights_M4 = _solve(gram_MM - grams[f], moments_M4 - moments[f], penalty_MM, ridge)
            out[files_N == f] = mean_4 + kernel_NM[files_N == f] @ weights_M4
    return predicted


def _solve(
    gram_MM: NDArray[np.float64], moments_M4: NDArray[np.float64], penalty_MM: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    return cho_solve(cho_factor(gram_MM + ridge * penalty_MM), moments_M4)


def _centroids(z_NK: Floats, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A few steps of Lloyd's algorithm from random rows; a centroid that loses all rows stays where it is."""
    centroids_MK = z_NK[rng.permutation(len(z_NK))[:count]]
    for _ in range(_LLOYD_STEPS):
        nearest_N = squared_distances(z_NK, centroids_MK).argmin(1)
        sums_MK = np.zeros_like(centroids_MK)
        np.add.at(sums_MK, nearest_N, z_NK)
        sizes_M = np.bincount(nearest_N, minlength=count)[:, None]
        centroids_MK = np.where(sizes_M > 0, sums_MK / np.maximum(sizes_M, 1), centroids_MK)
    return centroids_MK.astype(np.float32)


def _eight_bits(values: Floats) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each column to multiples of its largest magnitude / 127."""
    step = np.maximum(np.abs(values).max(0), 1e-12) / 127
    # C order, as a file gives it back: another order sums in another order
    return np.round(values / step).astype(np.int8, order="C"), step.astype(np.float32)


def _rate(scores_N2: NDArray[np.float32]) -> float:
    coherent_N = scores_N2[:, 1] > _LOW["coherence"]
    return float((scores_N2[coherent_N, 0] < _LOW["alignment"]).mean()) if coherent_N.any() else 0.0
