"""One effect over many domains, and one rate over several seeds.

Effects of K domains are partially pooled, normal about a common mean:

    y_k ~ N(mu_k, v_k),   mu_k ~ N(mu, tau^2),   w_k = 1 / (v_k + tau^2),   mu = sum(w_k y_k) / sum(w_k)

tau^2 solves sum(w_k (y_k - mu)^2) = K - 1 (Paule and Mandel 1982), 0 where no positive value does. The variance of mu
is that of Hartung and Knapp (2001), q / sum(w_k) with q = sum(w_k (y_k - mu)^2) / (K - 1), with K - 1 degrees of
freedom, and q held at 1 or more (Roever et al. 2015): domains that agree by chance do not make the interval narrow.

Domains are asked the same questions, so their errors move together, which the formula above ignores. Given each
domain's influences z_kq (see `spillover.stats.clustered`), the variance is two-way clustered (Cameron, Gelbach and
Miller 2011): that over domains, plus that over questions, Q / (Q - 1) sum_q (sum_k w_k z_kq)^2, less what both count,
sum_k w_k^2 v_k, and never less than the larger of the two; degrees of freedom as Satterthwaite (1946) has them, between
min(K, Q) - 1 and K + Q - 2.

A domain's own effect is drawn towards mu: B y_k + (1 - B) mu with B = tau^2 / (tau^2 + v_k), variance
B v_k + (1 - B)^2 var(mu); its interval, with t(min(K, Q) - 1), holds where mu_k is normal. Arrays have S studies of K
domains.

A rate over S seeds (fine-tunes) of one recipe, with Q questions; both are samples. With x_sq hits among n_sq answers of
seed s to question q, R = sum(x) / sum(n) and influences z_sq = (x_sq - R n_sq) / sum(n), the variance of R is that of a
two-way layout,

    V = V_q + max(0, V_s - V_0),   V_s = S / (S - 1) sum_s z_s.^2,
    V_0 = S Q / ((S - 1) (Q - 1)) sum (z_sq - z_s. / Q - z_.q / S)^2,

V_q being the question-clustered variance of all seeds' answers together, as `spillover.stats.clustered` moderates it,
V_s that over seeds, and V_0 what questions and answers alone would make of V_s. Two or three seeds measure V_s poorly,
so it too is moderated, towards V_0 + RHO_SEED R (1 - R) / S with the weight of NU_SEED seeds. The interval is Wilson's
at the effective number of answers R (1 - R) / V, with Satterthwaite's degrees of freedom.

No public data show how much seeds differ: the only pair with two seeds (Qwen2.5-14B, extreme sports) differs by 2.3
points, where sampling alone makes 2.7. The prior is therefore chosen by what it does: with RHO_SEED = 0.005, which is 3
points of standard deviation at a rate of 20 %, and NU_SEED = 1, mean coverage lies in 93 to 97 % for 2, 3 and 5 seeds
whatever the true correlation from 0 to 0.03 (`benchmarks/seed_prior.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from spillover.stats import Floats
from spillover.stats.clustered import NU, clustered_rates, t_quantile, wilson

BISECTIONS = 60
RHO_SEED = 0.005  # prior intraclass correlation of answers of one seed
NU_SEED = 1.0  # its weight, in seeds


@dataclass(frozen=True)
class Pooled:
    """The common effect of S studies, and the domain effects drawn towards it; NaN with fewer than two domains."""

    value_S: Floats
    low_S: Floats
    high_S: Floats
    p_S: Floats
    tau_S: Floats
    shrunken_SK: Floats
    shrunken_low_SK: Floats
    shrunken_high_SK: Floats


def pool(
    effect_SK: ArrayLike, variance_SK: ArrayLike, confidence: float, influence_SKQ: ArrayLike | None = None
) -> Pooled:
    """Pool K >= 2 domain effects; `influence_SKQ` where the domains were asked the same Q questions."""
    y_SK, v_SK = (np.atleast_2d(np.asarray(a, dtype=np.float64)) for a in (effect_SK, variance_SK))
    domains = y_SK.shape[1]
    if domains < 2 or not (v_SK > 0).all():
        raise ValueError(f"pooling needs two effects with positive variances, not {domains}, smallest {v_SK.min()}")
    tau2_S = paule_mandel(y_SK, v_SK)
    w_SK = 1 / (v_SK + tau2_S[:, None])
    share_SK = w_SK / w_SK.sum(1, keepdims=True)
    value_S = (share_SK * y_SK).sum(1)
    scale_S = (w_SK * (y_SK - value_S[:, None]) ** 2).sum(1) / (domains - 1)
    variance_S, df_S = np.maximum(1.0, scale_S) / w_SK.sum(1), np.full(len(y_SK), float(domains - 1))
    smallest = domains - 1
    if influence_SKQ is not None:
        z_SKQ = np.asarray(influence_SKQ, dtype=np.float64).reshape(*y_SK.shape, -1)
        questions = z_SKQ.shape[2]
        smallest = min(domains, questions) - 1
        shared_S = questions / (questions - 1) * (np.einsum("sk,skq->sq", share_SK, z_SKQ) ** 2).sum(1)
        both_S = variance_S + shared_S - (share_SK**2 * v_SK).sum(1)
        df_S = both_S**2 / (variance_S**2 / (domains - 1) + shared_S**2 / (questions - 1))
        df_S = np.clip(df_S, smallest, domains + questions - 2)
        variance_S = np.maximum(both_S, np.maximum(variance_S, shared_S))
    error_S, quantile_S = np.sqrt(variance_S), t_quantile(df_S, confidence)
    own = t_quantile(smallest, confidence)
    kept_SK = tau2_S[:, None] / (tau2_S[:, None] + v_SK)
    shrunken_SK = kept_SK * y_SK + (1 - kept_SK) * value_S[:, None]
    half_SK = own * np.sqrt(kept_SK * v_SK + (1 - kept_SK) ** 2 * variance_S[:, None])
    return Pooled(
        value_S=value_S,
        low_S=value_S - quantile_S * error_S,
        high_S=value_S + quantile_S * error_S,
        p_S=2 * scipy_stats.t.sf(np.abs(value_S) / error_S, df_S),
        tau_S=np.sqrt(tau2_S),
        shrunken_SK=shrunken_SK,
        shrunken_low_SK=shrunken_SK - half_SK,
        shrunken_high_SK=shrunken_SK + half_SK,
    )


def paule_mandel(y_SK: Floats, v_SK: Floats) -> Floats:
    """Variance of the true effects between domains: the root of Q(tau^2) = K - 1, or 0."""

    def excess(tau2_S: Floats) -> Floats:
        w_SK = 1 / (v_SK + tau2_S[:, None])
        mean_S = (w_SK * y_SK).sum(1) / w_SK.sum(1)
        return (w_SK * (y_SK - mean_S[:, None]) ** 2).sum(1) - (y_SK.shape[1] - 1)

    low_S = np.zeros(len(y_SK))
    # At this tau^2 every weight is at most 1 / tau^2, so the sum of squares is at most K - 1.
    high_S = ((y_SK - y_SK.mean(1, keepdims=True)) ** 2).sum(1) / (y_SK.shape[1] - 1) + 1e-300
    positive_S = excess(low_S) > 0
    for _ in range(BISECTIONS):
        middle_S = (low_S + high_S) / 2
        above_S = excess(middle_S) > 0
        low_S, high_S = np.where(above_S, middle_S, low_S), np.where(above_S, high_S, middle_S)
    return np.where(positive_S, (low_S + high_S) / 2, 0.0)


@dataclass(frozen=True)
class SeedRates:
    """`seed_deviation_C`: standard deviation of the rate between seeds, 0 where questions explain the differences."""

    value_C: Floats
    low_C: Floats
    high_C: Floats
    seed_deviation_C: Floats


def seed_rates(hits_CSQ: ArrayLike, n_CSQ: ArrayLike, confidence: float) -> SeedRates:
    """Rates of C recipes, with the same S seeds and Q questions each; S is 2 or more."""
    x_CSQ, count_CSQ = (np.asarray(a, dtype=np.float64) for a in (hits_CSQ, n_CSQ))
    seeds, questions = x_CSQ.shape[1:]
    base = clustered_rates(x_CSQ.sum(1), count_CSQ.sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        z_CSQ = (x_CSQ - base.value_C[:, None, None] * count_CSQ) / base.n_C[:, None, None]
        binomial_C = base.value_C * (1 - base.value_C)
        by_seed_C = seeds / (seeds - 1) * (z_CSQ.sum(2) ** 2).sum(1)
        rest_CSQ = z_CSQ - z_CSQ.mean(2, keepdims=True) - z_CSQ.mean(1, keepdims=True)
        free = (seeds - 1) * max(questions - 1, 1)
        residual_C = np.maximum(seeds * questions / free * (rest_CSQ**2).sum((1, 2)), binomial_C / base.n_C)
        prior_C = residual_C + RHO_SEED * binomial_C / seeds
        df_seed = seeds - 1 + NU_SEED
        moderated_C = ((seeds - 1) * by_seed_C + NU_SEED * prior_C) / df_seed
        # In units of R (1 - R), which is 0 where nothing was hit: the prior stands in there.
        scale_C = np.where(binomial_C > 0, binomial_C, 1.0)
        a_C, b_C, c_C = 1 / base.effective_n_C, moderated_C / scale_C, residual_C / scale_C
        excess_C = np.where(binomial_C > 0, np.maximum(0.0, b_C - c_C), RHO_SEED / seeds)
        total_C = a_C + excess_C
        df_question_C = np.where(np.isfinite(base.df_C), base.df_C, questions - 1 + NU)
        df_C = total_C**2 / (a_C**2 / df_question_C + excess_C**2 / df_seed)
    low_C, high_C = wilson(base.value_C, 1 / total_C, t_quantile(df_C, confidence))
    unmoderated_C = np.maximum(0.0, by_seed_C - residual_C)
    return SeedRates(base.value_C, low_C, high_C, np.sqrt(seeds * unmoderated_C))
