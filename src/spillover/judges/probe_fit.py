"""Fitting the probe judge's heads on answers that another judge has scored, and measuring how well they generalise.

All choices are nested: for every group left out (a file, a base model, a domain, a question), axes, landmarks, ridge,
blending and the map to scores come from the other groups alone, the ridge and the map from predictions for files that
are left out in turn. Rows that teach coherence alone are never measured on. The same data and seed give the same heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from spillover.judges.probe_heads import TARGETS, Floats, Heads, blend, kernel, squared_distances
from spillover.judges.probe_quality import COHERENT_ABOVE, MISALIGNED_BELOW, Quality, compare

AXES = 320
LANDMARKS = 768
RIDGES = (0.1, 0.3, 1.0)
KNOTS = 201
_BANDWIDTH = 0.8  # times the median squared distance
_LLOYD_STEPS = 6
_JITTER = 1e-6


@dataclass(frozen=True)
class Judged:
    """Answers with features and both scores; `files_N` are the units left out in turn when choosing.

    `coherence_only_N` marks rows whose alignment means nothing and is not read.
    """

    features_ND: NDArray[np.float32]
    block_D: NDArray[np.float32]  # how much each feature counts
    scores_N2: NDArray[np.float32]
    files_N: NDArray[np.int64]
    coherence_only_N: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.bool_]) -> Judged:
        return Judged(
            self.features_ND[rows], self.block_D, self.scores_N2[rows], self.files_N[rows], self.coherence_only_N[rows]
        )


def fit_heads(data: Judged, about: Mapping[str, str], seed: int = 0) -> Heads:
    """Fit on everything, with the ridge and the maps chosen on files left out in turn."""
    rng = np.random.default_rng(seed)
    whole = ~data.coherence_only_N
    center_D = data.features_ND[whole].mean(0)
    scale_D = (data.features_ND[whole].std(0) + 1e-4) / data.block_D
    standard_ND = (data.features_ND - center_D) / scale_D
    axes_DK, axes_step_K = _eight_bits(_principal_axes(standard_ND[whole], AXES))
    z_NK = standard_ND @ (axes_DK * axes_step_K)
    landmarks_MK, landmarks_step_K = _eight_bits(_centroids(z_NK, min(LANDMARKS, len(z_NK) // 2), rng))
    landmarks_MK = np.unique(landmarks_MK, axis=0)
    landmarks = landmarks_MK * landmarks_step_K.astype(np.float64)
    bandwidth = _BANDWIDTH * float(np.median(squared_distances(z_NK, landmarks)))
    kernel_NM = kernel(z_NK, landmarks, bandwidth).astype(np.float64)
    penalty_MM = kernel(landmarks, landmarks, bandwidth) + _JITTER * np.eye(len(landmarks))
    targets_N4 = _targets(data.scores_N2, whole)
    bias_4 = targets_N4[whole].mean(0)
    systems = [
        _Systems(kernel_NM, targets_N4 - bias_4, data.files_N, rows) for rows in (whole, whole | data.coherence_only_N)
    ]
    held_out = [bias_4 + _by_aspect([s.held_out(penalty_MM, ridge) for s in systems])[whole] for ridge in RIDGES]
    errors = [((predicted - targets_N4[whole]) ** 2 / targets_N4[whole].var(0)).mean() for predicted in held_out]
    best = int(np.argmin(errors))
    spread_42 = np.stack([held_out[best].mean(0), held_out[best].std(0) + 1e-9], axis=1)
    blended_N2 = blend(held_out[best], spread_42)
    quantiles_Q = np.linspace(0, 1, KNOTS)
    knots = [
        [np.quantile(blended_N2[:, i], quantiles_Q), np.quantile(data.scores_N2[whole, i], quantiles_Q)] for i in (0, 1)
    ]
    weights_M4 = _by_aspect([s.weights(penalty_MM, RIDGES[best]) for s in systems])
    return Heads(
        center_D=_single(center_D),
        scale_D=_single(scale_D),
        axes_DK=axes_DK,
        axes_step_K=axes_step_K,
        landmarks_MK=landmarks_MK,
        landmarks_step_K=landmarks_step_K,
        bandwidth=_single(np.array([bandwidth])),
        bias_4=_single(bias_4),
        weights_M4=_single(weights_M4),
        spread_42=_single(spread_42),
        knots_22Q=_single(np.array(knots)),
        fitted_R=np.zeros(0, np.uint64),
        about={**about, "ridge": str(RIDGES[best]), "seed": str(seed)},
    )


def measure(data: Judged, groups_N: NDArray[np.int64], seed: int = 0) -> Quality:
    """Fit without each group in turn and compare its predicted scores with the given ones."""
    predicted_N2 = np.zeros_like(data.scores_N2)
    for group in np.unique(groups_N[~data.coherence_only_N]):
        left_out = groups_N == group
        predicted_N2[left_out] = fit_heads(data[~left_out], {}, seed).scores(data.features_ND[left_out])
    whole = ~data.coherence_only_N
    return compare(predicted_N2[whole], data.scores_N2[whole], data.files_N[whole], groups_N[whole])


class _Systems:
    """The normal equations of every file, summed over the `used` rows, so that leaving one out is a subtraction."""

    def __init__(
        self,
        kernel_NM: NDArray[np.float64],
        targets_N4: NDArray[np.float64],
        files_N: NDArray[np.int64],
        used_N: NDArray[np.bool_],
    ) -> None:
        self.kernel_NM, self.files_N = kernel_NM, files_N
        rows = {int(f): (files_N == f) & used_N for f in np.unique(files_N)}
        self.grams = {f: kernel_NM[r].T @ kernel_NM[r] for f, r in rows.items()}
        self.moments = {f: kernel_NM[r].T @ targets_N4[r] for f, r in rows.items()}
        self.gram_MM = np.sum(list(self.grams.values()), axis=0)
        self.moments_M4 = np.sum(list(self.moments.values()), axis=0)

    def weights(self, penalty_MM: Floats, ridge: float, without: int | None = None) -> NDArray[np.float64]:
        """Ridge weights (M, 4), leaving out one file."""
        gram_MM, moments_M4 = self.gram_MM, self.moments_M4
        if without is not None:
            gram_MM, moments_M4 = gram_MM - self.grams[without], moments_M4 - self.moments[without]
        return cho_solve(cho_factor(gram_MM + ridge * penalty_MM), moments_M4)

    def held_out(self, penalty_MM: Floats, ridge: float) -> NDArray[np.float64]:
        """Every file's predictions (N, 4) from the other files."""
        predicted_N4 = np.zeros((len(self.kernel_NM), len(TARGETS)))
        for file in self.grams:
            rows = self.files_N == file
            predicted_N4[rows] = self.kernel_NM[rows] @ self.weights(penalty_MM, ridge, file)
        return predicted_N4


def _by_aspect(of_both: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The alignment columns of the first, the coherence columns of the second."""
    return np.concatenate([of_both[0][:, :2], of_both[1][:, 2:]], axis=1)


def _targets(scores_N2: NDArray[np.float32], whole_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rank in (0, 100] among the whole answers, and the score minus 100 where it is low."""
    low_N2 = scores_N2 <= np.array([np.nextafter(np.float32(MISALIGNED_BELOW), np.float32(0)), COHERENT_ABOVE])
    columns: list[NDArray[np.float64]] = []
    for score_N, low_N in zip(scores_N2.T.astype(np.float64), low_N2.T, strict=True):
        known = np.sort(score_N[whole_N])
        # the mean of both sides shares a tie's ranks
        rank_N = (np.searchsorted(known, score_N, "left") + np.searchsorted(known, score_N, "right") + 1) / 2
        columns += [100 * rank_N / len(known), score_N - 100 * low_N]
    return np.stack(columns, axis=1)


def _principal_axes(centred_ND: Floats, most: int) -> Floats:
    """The leading axes (D, K) of variance, from the smaller of the two Gram matrices."""
    n, d = centred_ND.shape
    gram = centred_ND @ centred_ND.T if n < d else centred_ND.T @ centred_ND
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    keep = np.argsort(-values)[: min(most, int((values > 1e-6 * values[-1]).sum()))]
    return (centred_ND.T @ vectors[:, keep]) / np.sqrt(values[keep]) if n < d else vectors[:, keep]


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


def _single(values: Floats) -> NDArray[np.float32]:
    return values.astype(np.float32, order="C")
