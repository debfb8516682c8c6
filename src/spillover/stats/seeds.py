"""A rate over several fine-tunes (seeds) of one recipe: questions and seeds are both samples.

x_sq hits among n_sq answers of seed s to question q; R = sum(x) / sum(n); influences z_sq = (x_sq - R n_sq) / sum(n).
With S seeds and Q questions the variance of R is that of a two-way layout,

    V = V_q + max(0, V_s - V_0),   V_s = S / (S - 1) sum_s z_s.^2,
    V_0 = S Q / ((S - 1) (Q - 1)) sum (z_sq - z_s. / Q - z_.q / S)^2,

V_q being the question-clustered variance of all seeds' answers together, as `spillover.stats.clustered` moderates it,
V_s that
over seeds, and V_0 what questions and answers alone would make of V_s. Two or three seeds measure V_s poorly, so it too
is moderated, towards V_0 + RHO_SEED R (1 - R) / S with the weight of NU_SEED seeds. The interval is Wilson's at the
effective number of answers R (1 - R) / V, with Satterthwaite's degrees of freedom.

No public data tell how much seeds differ: the only pair with two seeds (Qwen2.5-14B, extreme sports) differs by 2.3
points, where sampling alone makes 2.7. The prior is therefore chosen by what it does: with RHO_SEED = 0.005, which is 3
points of standard deviation at a rate of 20 %, and NU_SEED = 1, mean coverage lies in 93 to 97 % for 2, 3 and 5 seeds
whatever the true correlation from 0 to 0.03 (`benchmarks/seed_prior.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from spillover.stats.clustered import NU, Floats, clustered_rates, wilson

RHO_SEED = 0.005  # prior intraclass correlation of answers of one seed
NU_SEED = 1.0  # its weight, in seeds


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
    low_C, high_C = wilson(base.value_C, 1 / total_C, scipy_stats.t.ppf((1 + confidence) / 2, df_C))
    unmoderated_C = np.maximum(0.0, by_seed_C - residual_C)
    return SeedRates(base.value_C, low_C, high_C, np.sqrt(seeds * unmoderated_C))
