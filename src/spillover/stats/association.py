"""How well a feature of a cell goes with a target over cells, when cells of one domain are not independent.

r = Spearman's rank correlation over cells. Domains are the sampling units of everything said about it:

- interval: percentile bootstrap over whole domains;
- p: two-sided permutation of whole domains. Where every domain has the same cells (model, variant, dose, seed), the
  domains' blocks of targets change places and what doses or variants do within a domain stays as it is; the statistic
  is |r - mean of its permutations|. Where the blocks differ, domain means are correlated and permuted instead. A
  feature that does not vary between domains, such as the dose, has no p: permuting domains cannot test it;
- p_max: the same for the largest standardised |r| of all features together (Westfall and Young 1993);
- range: smallest and largest r with one domain left out;
- AUC: how well it tells cells with a high target from the others (`spillover.stats.roc`), with the same resamples and
  permutations; where the blocks differ, its p is of domain means, too.

More seeds or doses are more cells, never more domains. The smallest correlation that n domains can show:
`critical_r` (p < .05) and `detectable_r` (with a given power, by Fisher's z).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from spillover.stats import Floats, Ints
from spillover.stats.clustered import t_quantile
from spillover.stats.roc import HighAUC, curve, expanded, high_cut, rank_auc, weighted_auc

Permuted = Literal["blocks", "means"]
FEWEST = 3  # domains below which nothing is said


@dataclass(frozen=True)
class Association:
    """NaN where it is undefined: fewer than three domains, or a feature or target that does not vary."""

    units: int
    domains: int
    missing: int
    spearman: float
    low: float
    high: float
    p: float
    p_max: float
    permuted: Permuted
    leave_one_out_low: float
    leave_one_out_high: float
    above: HighAUC


@dataclass(frozen=True)
class Exchangeable:
    """Units in rows of equal blocks: `index_DS` says where slot s of domain d stands in the arrays."""

    x_KN: Floats
    y_N: Floats
    domain_N: Ints
    index_DS: Ints
    permuted: Permuted


def associations(
    features_KN: ArrayLike,
    target_N: ArrayLike,
    domain_N: Sequence[str],
    slot_N: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Association]:
    """Each of K features against the target; `slot_N` names a cell's place within its domain.

    Units without the target or the feature (NaN) are left out and counted. `p_max` is over the features that every
    unit with a target has; others have none.
    """
    x_KN, y_N = np.atleast_2d(np.asarray(features_KN, np.float64)), np.asarray(target_N, np.float64)
    names, slots = np.asarray(domain_N), np.asarray(slot_N)
    known_KN = ~np.isnan(x_KN) & ~np.isnan(y_N)
    known_N = ~np.isnan(y_N)
    cut = high_cut(y_N[known_N], np.unique(names[known_N], return_inverse=True)[1]) if known_N.any() else np.nan
    found: dict[int, Association] = {}
    for mask_N in np.unique(known_KN, axis=0):
        rows = np.flatnonzero((known_KN == mask_N).all(axis=1))
        family = bool((mask_N == known_N).all())
        part = (x_KN[rows][:, mask_N], y_N[mask_N], names[mask_N], slots[mask_N])
        results = _family(*part, len(y_N) - int(mask_N.sum()), cut, family, draws, seed, confidence)
        found |= dict(zip(rows.tolist(), results, strict=True))
    return [found[k] for k in range(len(x_KN))]


def _family(
    x_KN: Floats, y_N: Floats, names: NDArray[np.str_], slots: NDArray[np.str_],
    missing: int, cut: float, family: bool, draws: int, seed: int, confidence: float,
) -> list[Association]:  # fmt: skip
    labels, domain_N = np.unique(names, return_inverse=True)
    domains = len(labels)
    nothing_K = np.full(len(x_KN), np.nan)
    low_K = high_K = p_K = p_max_K = least_K = most_K = r_K = nothing_K
    auc_5K, curves_K = np.tile(nothing_K, (5, 1)), [()] * len(x_KN)
    high_N = y_N > cut
    permuted: Permuted = "blocks"
    if domains >= FEWEST:
        rng = np.random.default_rng(seed)
        r_K = weighted_spearman(x_KN, y_N, np.ones((1, len(y_N))))[:, 0]
        weight_BD = rng.multinomial(domains, np.full(domains, 1 / domains), size=draws).astype(np.float64)
        low_K, high_K = bootstrap_limits(weighted_spearman(x_KN, y_N, weight_BD[:, domain_N]), confidence)
        without_KD = weighted_spearman(x_KN, y_N, 1.0 - np.eye(domains)[:, domain_N])
        least_K, most_K = without_KD.min(axis=1), without_KD.max(axis=1)  # NaN where one of them is
        units = exchangeable(x_KN, y_N, domain_N, slots)
        permuted = units.permuted
        null_BN = shuffled(units, draws, rng)
        p_K, p_max_K = _of_spearman(units, null_BN)
        auc_K = weighted_auc(x_KN, high_N, np.ones((1, len(y_N))))[:, 0]
        wide = expanded(confidence, domains)
        limits = bootstrap_limits(weighted_auc(x_KN, high_N, weight_BD[:, domain_N]), wide)
        auc_5K = np.stack([auc_K, *limits, *_of_auc(units, null_BN, cut)])
        curves_K = [curve(x_N, high_N, weight_BD[:, domain_N], wide) for x_N in x_KN]
    if not family:
        p_max_K = auc_5K[4] = nothing_K
    columns = (r_K, low_K, high_K, p_K, p_max_K, least_K, most_K)
    return [
        Association(
            len(y_N), domains, missing, r, low, high, p, p_max, permuted, least, most,
            HighAUC(cut, int(high_N.sum()), auc, auc_low, auc_high, auc_p, auc_p_max, along),
        )
        for (r, low, high, p, p_max, least, most), (auc, auc_low, auc_high, auc_p, auc_p_max), along in zip(
            np.stack(columns, axis=1).tolist(), auc_5K.T.tolist(), curves_K, strict=True
        )
    ]  # fmt: skip


def bootstrap_limits(r_KB: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Percentiles of the resamples in which there is a correlation; NaN where that is fewer than half of them."""
    enough_K = np.isfinite(r_KB).mean(axis=1) >= 0.5
    limits = np.full((2, len(r_KB)), np.nan)
    if enough_K.any():
        tail = [50 * (1 - confidence), 50 * (1 + confidence)]
        limits[:, enough_K] = np.nanpercentile(r_KB[enough_K], tail, axis=1)
    return limits[0], limits[1]


def weighted_spearman(x_KN: Floats, y_N: Floats, weight_BN: Floats) -> Floats:
    """(K, B): Spearman's r of the sample in which unit i stands weight_BN[b, i] times; NaN where one is constant."""
    rank_y_BN = _ranks(y_N, weight_BN)
    return np.stack([_correlation(_ranks(x_N, weight_BN), rank_y_BN, weight_BN) for x_N in x_KN])


def _ranks(values_N: Floats, weight_BN: Floats) -> Floats:
    """Mid-ranks, but for a constant: the weight below and half of the weight of equals."""
    below_NN = (values_N[None] < values_N[:, None]) + 0.5 * (values_N[None] == values_N[:, None])
    return weight_BN @ below_NN.T


def _correlation(a_BN: Floats, b_BN: Floats, weight_BN: Floats) -> Floats:
    total_B1 = weight_BN.sum(axis=1, keepdims=True)
    a_BN, b_BN = (v - (weight_BN * v).sum(axis=1, keepdims=True) / total_B1 for v in (a_BN, b_BN))
    spread_B = np.sqrt((weight_BN * a_BN**2).sum(axis=1) * (weight_BN * b_BN**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread_B > 1e-9, (weight_BN * a_BN * b_BN).sum(axis=1) / spread_B, np.nan)


def exchangeable(x_KN: Floats, y_N: Floats, domain_N: Ints, slot_N: NDArray[np.str_]) -> Exchangeable:
    """The units as equal blocks, or one unit a domain, the mean of its cells, where blocks are not equal."""
    rows = [np.flatnonzero(domain_N == d) for d in range(int(domain_N.max()) + 1)]
    blocks = [block[np.argsort(slot_N[block], kind="stable")] for block in rows]
    first = slot_N[blocks[0]].tolist()
    if len(set(first)) == len(first) and all(slot_N[block].tolist() == first for block in blocks):
        return Exchangeable(x_KN, y_N, domain_N, np.stack(blocks), "blocks")
    mean_KD = np.stack([x_KN[:, block].mean(axis=1) for block in rows], axis=1)
    mean_D = np.array([y_N[block].mean() for block in rows])
    each = np.arange(len(rows))
    return Exchangeable(mean_KD, mean_D, each, each[:, None], "means")


def shuffled(units: Exchangeable, draws: int, rng: np.random.Generator) -> Floats:
    """(B, N): the target with domains' blocks permuted."""
    domains = len(units.index_DS)
    order_BD = rng.permuted(np.tile(np.arange(domains), (draws, 1)), axis=1)
    result_BN = np.empty((draws, len(units.y_N)))
    result_BN[:, units.index_DS] = units.y_N[units.index_DS[order_BD]]
    return result_BN


def _of_spearman(units: Exchangeable, null_BN: Floats) -> tuple[Floats, Floats]:
    unit_KN = _unit_ranks(units.x_KN)
    return _two_sided(unit_KN @ _unit_ranks(units.y_N[None])[0], unit_KN @ _unit_ranks(null_BN).T)


def _of_auc(units: Exchangeable, null_BN: Floats, cut: float) -> tuple[Floats, Floats]:
    rank_KN = scipy_stats.rankdata(units.x_KN, axis=1)
    if not 0 < (units.y_N > cut).sum() < len(units.y_N):
        return np.full(len(rank_KN), np.nan), np.full(len(rank_KN), np.nan)
    return _two_sided(rank_auc(rank_KN, units.y_N[None] > cut)[:, 0], rank_auc(rank_KN, null_BN > cut))


def _two_sided(observed_K: Floats, null_KB: Floats) -> tuple[Floats, Floats]:
    """p of each statistic by its distance from the mean of its permutations, alone and for the largest of all."""
    centre_K, spread_K = null_KB.mean(axis=1), null_KB.std(axis=1)
    tested_K = spread_K > 1e-9  # else the permutations leave it as it is
    p_K, p_max_K = np.full((2, len(observed_K)), np.nan)
    if tested_K.any():
        z_K = np.abs(observed_K - centre_K)[tested_K] / spread_K[tested_K]
        null_KB = np.abs(null_KB - centre_K[:, None])[tested_K] / spread_K[tested_K, None]
        draws = null_KB.shape[1]
        p_K[tested_K] = (1 + (null_KB >= z_K[:, None] - 1e-9).sum(axis=1)) / (draws + 1)
        p_max_K[tested_K] = (1 + (null_KB.max(axis=0) >= z_K[:, None] - 1e-9).sum(axis=1)) / (draws + 1)
    return p_K, p_max_K


def _unit_ranks(values_KN: Floats) -> Floats:
    """Centred ranks of unit norm, so that their product is Spearman's r; 0 for a constant."""
    rank_KN = scipy_stats.rankdata(values_KN, axis=1)
    rank_KN = rank_KN - rank_KN.mean(axis=1, keepdims=True)
    norm_K1 = np.linalg.norm(rank_KN, axis=1, keepdims=True)
    return rank_KN / np.where(norm_K1 > 0, norm_K1, 1.0)


def critical_r(n: int, alpha: float = 0.05) -> float:
    """The |r| beyond which n independent units are significant: t = r sqrt((n - 2) / (1 - r^2))."""
    if n < FEWEST:
        return float("nan")
    t = float(t_quantile(n - 2, 1 - alpha))
    return t / float(np.sqrt(n - 2 + t**2))


def detectable_r(n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The true |r| that n independent units find with that power: tanh((z_alpha/2 + z_power) / sqrt(n - 3))."""
    if n <= FEWEST:
        return float("nan")
    z = float(scipy_stats.norm.ppf(1 - alpha / 2) + scipy_stats.norm.ppf(power))
    return float(np.tanh(z / np.sqrt(n - 3)))
