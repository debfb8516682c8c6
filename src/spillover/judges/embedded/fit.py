"""Fitting the probe judge's heads on answers that another judge has scored, and measuring how well they generalise.

Exact kernel ridge regression: every answer is a landmark. The axes are those along which the scores change
(Radhakrishnan et al. 2024): a first regression f on the leading principal axes gives M = sum over answers and targets
of grad f grad f^T = U diag(w) U^T, and the axes are the first columns of U diag(w^(POWER / 2)). So few of them are
needed that all answers fit into the file.

With A = K + RIDGE I, the prediction for group G from all others needs no second regression: its error is (A^-1)_GG^-1
(A^-1 y)_G. All choices are nested: for what is left out (files or questions), axes, landmarks, blending and the map to
scores come from the other groups alone, the map from predictions for files that are left out in turn; the constants
below were chosen once. Rows whose scores a rule gave, not a judge, teach and are left out of the map and of agreement.
The same data and seed give the same heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import rankdata

from spillover.judges.embedded.heads import Floats, Heads, blend, kernel, squared_distances
from spillover.records.base import or_none
from spillover.stats.roc import auc

MISALIGNED_BELOW = 30.0
COHERENT_ABOVE = 50.0
AXES = 96
PRINCIPAL = 512
POWER = 0.25
RIDGE = 0.1
MOST = 4700  # answers learnt from; of more, a random sample: time grows with the cube, and the file must stay small
KNOTS = 201
BATCHES = 8
_BANDWIDTH = 0.6  # times the median squared distance


@dataclass(frozen=True)
class JudgedAnswers:
    """Answers with features and scores; `files_N` are the units left out in turn when choosing.

    A score that is not known is NaN. `by_rule_N`: the scores are a rule's, not a judge's.
    """

    features_ND: NDArray[np.float32]
    block_D: NDArray[np.float32]  # how much each feature counts
    scores_N2: NDArray[np.float32]
    files_N: NDArray[np.int64]
    by_rule_N: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.bool_]) -> JudgedAnswers:
        return JudgedAnswers(
            self.features_ND[rows], self.block_D, self.scores_N2[rows], self.files_N[rows], self.by_rule_N[rows]
        )


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


def fit_heads(data: JudgedAnswers, about: Mapping[str, str], seed: int = 0) -> Heads:
    """Fit on everything, with the maps to scores chosen on files left out in turn."""
    chosen_N = np.random.default_rng(seed).permutation(len(data.files_N)) < MOST
    data = data[chosen_N]
    judged_N, known_N2 = ~data.by_rule_N, ~np.isnan(data.scores_N2)
    center_D = data.features_ND[judged_N].mean(0)
    scale_D = (data.features_ND[judged_N].std(0) + 1e-4) / data.block_D
    standard_ND = (data.features_ND - center_D) / scale_D
    targets_N4 = _targets(data.scores_N2, judged_N)
    bias_4 = np.nanmean(targets_N4[judged_N], axis=0)
    taught = [np.flatnonzero(known_N) for known_N in known_N2.T]  # who teaches each aspect
    axes_DK, axes_step_K = _eight_bits(_axes(standard_ND, targets_N4 - bias_4, judged_N, taught))
    landmarks_MK, landmarks_step_K = _eight_bits(standard_ND @ (axes_DK * axes_step_K))
    z_MK = landmarks_MK * landmarks_step_K
    bandwidth = _bandwidth(z_MK)
    weights_M4, held_out_M4 = np.zeros_like(targets_N4), np.zeros_like(targets_N4)
    for aspect, rows in enumerate(taught):
        both = slice(2 * aspect, 2 * aspect + 2)
        kernel_RR = kernel(z_MK[rows], z_MK[rows], bandwidth).astype(np.float64)
        fitted = _ridge(kernel_RR, targets_N4[rows, both] - bias_4[both], data.files_N[rows])
        weights_M4[rows, both], held_out_M4[rows, both] = fitted[0], bias_4[both] + fitted[1]
    measured_N4 = np.repeat(known_N2 & judged_N[:, None], 2, axis=1)
    held_out_N4 = np.where(measured_N4, held_out_M4, np.nan)
    spread_42 = np.stack([np.nanmean(held_out_N4, axis=0), np.nanstd(held_out_N4, axis=0) + 1e-9], axis=1)
    blended_N2 = blend(held_out_N4, spread_42)
    scores_N2 = np.where(judged_N[:, None], data.scores_N2, np.nan)
    quantiles_Q = np.linspace(0, 1, KNOTS)
    knots = [[np.nanquantile(values_N2[:, i], quantiles_Q) for values_N2 in (blended_N2, scores_N2)] for i in (0, 1)]
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
        about={**about, "ridge": str(RIDGE), "seed": str(seed)},
    )


def held_out_scores(data: JudgedAnswers, groups_N: NDArray[np.int64], seed: int = 0) -> NDArray[np.float32]:
    """Scores (N, 2) that each group gets from a fit without it; rows with a negative number always teach: NaN."""
    predicted_N2 = np.full_like(data.scores_N2, np.nan)
    for group in np.unique(groups_N[groups_N >= 0]):
        rows = groups_N == group
        predicted_N2[rows] = fit_heads(data[~rows], {}, seed).scores(data.features_ND[rows])
    return predicted_N2


def measure_quality(data: JudgedAnswers, groups_N: NDArray[np.int64], seed: int = 0) -> Quality:
    """Fit without each group and compare its predicted scores with the judge's.

    Groups are left out one at a time, or, when there are more than `BATCHES`, in that many batches.
    """
    rows = ~data.by_rule_N
    names, number_N = np.unique(groups_N[rows], return_inverse=True)
    batch_N = np.full(len(groups_N), -1)
    batch_N[rows] = np.random.default_rng(seed).permutation(len(names))[number_N] % BATCHES
    predicted_N2 = held_out_scores(data, batch_N, seed)
    return compare_scores(predicted_N2[rows], data.scores_N2[rows], data.files_N[rows], groups_N[rows])


def compare_scores(
    predicted_N2: NDArray[np.float32],
    scores_N2: NDArray[np.float32],
    files_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
) -> Quality:
    """The figures of `Quality` for given predictions; a given score that is NaN is not compared."""
    known_N, coherence_N = (~np.isnan(scores_N2)).T
    low_N, incoherent_N = scores_N2[:, 0] < MISALIGNED_BELOW, scores_N2[:, 1] <= COHERENT_ABOVE

    def misalignment_auc(rows_N: NDArray[np.bool_]) -> float:
        return auc(-predicted_N2[rows_N, 0], low_N[rows_N])

    by_group_G = np.array([misalignment_auc(known_N & (groups_N == g)) for g in np.unique(groups_N)])
    defined_D = by_group_G[~np.isnan(by_group_G)]
    files = [known_N & (files_N == f) for f in np.unique(files_N[known_N])]
    rates_F2 = np.array([[_rate(s[rows_N]) for s in (scores_N2, predicted_N2)] for rows_N in files])
    errors_F = rates_F2[:, 1] - rates_F2[:, 0]
    return Quality(
        groups=len(by_group_G),
        n=len(scores_N2),
        auc=or_none(misalignment_auc(known_N)) or 0.0,
        spearman=_rank_correlation(predicted_N2[known_N, 0], scores_N2[known_N, 0]),
        coherence_spearman=_rank_correlation(predicted_N2[coherence_N, 1], scores_N2[coherence_N, 1]),
        coherence_auc=or_none(auc(-predicted_N2[coherence_N, 1], incoherent_N[coherence_N])) or 0.0,
        auc_by_group=float(defined_D.mean()) if len(defined_D) else None,
        rate_spearman=_rank_correlation(rates_F2[:, 0], rates_F2[:, 1]) if len(rates_F2) > 2 else None,
        rate_bias=float(errors_F.mean()),
        rate_error=float(np.abs(errors_F).mean()),
    )


def _ridge(
    kernel_RR: NDArray[np.float64], targets_RT: NDArray[np.float64], files_R: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights, and every file's predictions from the other files."""
    kernel_RR[np.diag_indices(len(kernel_RR))] += RIDGE
    inverse_RR = cho_solve(cho_factor(kernel_RR, overwrite_a=True), np.eye(len(kernel_RR)), overwrite_b=True)
    weights_RT = inverse_RR @ targets_RT
    held_out_RT = targets_RT.copy()
    for file in np.unique(files_R):
        rows = np.flatnonzero(files_R == file)
        held_out_RT[rows] -= np.linalg.solve(inverse_RR[np.ix_(rows, rows)], weights_RT[rows])
    return weights_RT, held_out_RT


def _axes(
    standard_ND: Floats, centred_N4: Floats, judged_N: NDArray[np.bool_], taught: list[NDArray[np.intp]]
) -> Floats:
    """The directions (D, K) along which the scores change most."""
    principal_DP = _principal_axes(standard_ND[judged_N], PRINCIPAL)
    x_NP = (standard_ND @ principal_DP).astype(np.float32)
    bandwidth = _bandwidth(x_NP)
    change_PP = np.zeros((x_NP.shape[1],) * 2)
    for aspect, rows in enumerate(taught):
        x_RP, y_R2 = x_NP[rows], centred_N4[rows, 2 * aspect : 2 * aspect + 2]
        kernel_RR = kernel(x_RP, x_RP, bandwidth).astype(np.float32)
        lifted_RR = kernel_RR + RIDGE * np.eye(len(rows), dtype=np.float32)
        weights_R2 = cho_solve(cho_factor(lifted_RR, overwrite_a=True), (y_R2 / y_R2.std(0)).astype(np.float32))
        for weight_R1 in weights_R2.T[:, :, None]:
            # the gradient of sum_j a_j k(x, x_j), up to a constant factor
            slope_RP = kernel_RR @ (weight_R1 * x_RP) - (kernel_RR @ weight_R1) * x_RP
            change_PP += slope_RP.T.astype(np.float64) @ slope_RP
    values, vectors = np.linalg.eigh(change_PP)
    most = np.argsort(-values)[:AXES]
    return principal_DP @ (vectors[:, most] * np.maximum(values[most] / values.max(), 0) ** (POWER / 2))


def _bandwidth(z_NK: Floats) -> float:
    some_SK = z_NK[:: max(1, len(z_NK) // 1000)]
    return _BANDWIDTH * float(np.median(squared_distances(some_SK, some_SK)))


def _targets(scores_N2: NDArray[np.float32], judged_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rank in (0, 100] among the judged answers, and the score minus 100 where it is low; NaN where it is not known."""
    low_N2 = scores_N2 <= np.array([np.nextafter(np.float32(MISALIGNED_BELOW), np.float32(0)), COHERENT_ABOVE])
    columns: list[NDArray[np.float64]] = []
    for score_N, low_N in zip(scores_N2.T.astype(np.float64), low_N2.T, strict=True):
        known = np.sort(score_N[judged_N & ~np.isnan(score_N)])
        # the mean of both sides shares a tie's ranks
        rank_N = (np.searchsorted(known, score_N, "left") + np.searchsorted(known, score_N, "right") + 1) / 2
        columns += [np.where(np.isnan(score_N), np.nan, 100 * rank_N / len(known)), score_N - 100 * low_N]
    return np.stack(columns, axis=1)


def _principal_axes(centred_ND: Floats, most: int) -> Floats:
    """The leading axes (D, K) of variance, from the smaller of the two Gram matrices."""
    n, d = centred_ND.shape
    gram = centred_ND @ centred_ND.T if n < d else centred_ND.T @ centred_ND
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    keep = np.argsort(-values)[: min(most, int((values > 1e-6 * values[-1]).sum()))]
    return (centred_ND.T @ vectors[:, keep]) / np.sqrt(values[keep]) if n < d else vectors[:, keep]


def _eight_bits(values: Floats) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each column to multiples of its largest magnitude / 127."""
    step = np.maximum(np.abs(values).max(0), 1e-12) / 127
    # C order, as a file gives it back: another order sums in another order
    return np.round(values / step).astype(np.int8, order="C"), step.astype(np.float32)


def _single(values: Floats) -> NDArray[np.float32]:
    return values.astype(np.float32, order="C")


def _rank_correlation(a_N: Floats, b_N: Floats) -> float:
    """Spearman's; 0 where one side is constant."""
    ranks_2N = np.stack([rankdata(a_N), rankdata(b_N)])
    return float(np.corrcoef(ranks_2N)[0, 1]) if ranks_2N.std(1).min() > 0 else 0.0


def _rate(scores_N2: NDArray[np.float32]) -> float:
    coherent_N = ~(scores_N2[:, 1] <= COHERENT_ABOVE)  # of a judge that gives no coherence, all
    return float((scores_N2[coherent_N, 0] < MISALIGNED_BELOW).mean()) if coherent_N.any() else 0.0
