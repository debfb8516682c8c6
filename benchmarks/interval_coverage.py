"""How often a nominal 95 % interval holds the true rate: `python benchmarks/interval_coverage.py`.

Answers are drawn as beta-binomial at the rate and intraclass correlation of 13 public fine-tuned models (maximum
likelihood on 8 questions x 50 answers each, misaligned among coherent), 95 % of them coherent. "questions like these":
every repetition draws new questions. `worst` is the model with the lowest coverage. Seeded; a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special
from scipy import stats as scipy_stats
from simulated_studies import MODELS

from spillover.stats import Floats
from spillover.stats import clustered as stats

REPETITIONS = 3000
Method = Callable[[stats.Rates], tuple[Floats, Floats]]


def naive(rates: stats.Rates) -> tuple[Floats, Floats]:
    """Wilson's interval, as if all answers were independent."""
    return stats.wilson(rates.value_C, rates.n_C, scipy_stats.norm.ppf(0.975))


def clustered_t(rates: stats.Rates) -> tuple[Floats, Floats]:
    """Rate +- t(Q - 1) times the cluster-robust standard error."""
    half_C = scipy_stats.t.ppf(0.975, rates.questions_C - 1) * np.sqrt(rates.variance_C)
    return rates.value_C - half_C, rates.value_C + half_C


def logit_t(rates: stats.Rates) -> tuple[Floats, Floats]:
    """The same on the logit scale, half an answer away from 0 and 1, at least the binomial variance."""
    rate_C = np.clip(rates.value_C, 0.5 / rates.n_C, 1 - 0.5 / rates.n_C)
    spread_C = rate_C * (1 - rate_C)
    error_C = np.sqrt(np.maximum(rates.variance_C, spread_C / rates.n_C)) / spread_C
    half_C = scipy_stats.t.ppf(0.975, rates.questions_C - 1) * error_C
    return special.expit(special.logit(rate_C) - half_C), special.expit(special.logit(rate_C) + half_C)


def unmoderated(rates: stats.Rates) -> tuple[Floats, Floats]:
    """Effective-n Wilson with the design effect as measured, at least 1, and t(Q - 1)."""
    effect_C = np.maximum(1.0, np.nan_to_num(rates.design_effect_C, nan=1.0))
    return stats.wilson(rates.value_C, rates.n_C / effect_C, scipy_stats.t.ppf(0.975, rates.questions_C - 1))


def shipped(rates: stats.Rates) -> tuple[Floats, Floats]:
    """What spillover reports."""
    return stats.rate_intervals(rates, 0.95)


def main() -> None:
    """Print coverage and mean width by method, questions and answers a question."""
    methods: tuple[Method, ...] = (naive, clustered_t, logit_t, unmoderated, shipped)
    print(f"{'questions':>9} {'answers':>8} {'method':>12} {'coverage':>9} {'worst':>6} {'width':>6}")
    for answers in (8, 50, 100):
        for questions in (8, 15, 24):
            rng = np.random.default_rng(17)
            covered: dict[str, list[float]] = {method.__name__: [] for method in methods}
            width: dict[str, list[float]] = {method.__name__: [] for method in methods}
            for rate, correlation in MODELS:
                size = (1 - correlation) / correlation
                share = rng.beta(rate * size, (1 - rate) * size, (REPETITIONS, questions))
                n = np.maximum(1, rng.binomial(answers, 0.95, share.shape))
                rates = stats.clustered_rates(rng.binomial(n, share), n)
                for method in methods:
                    low, high = method(rates)
                    covered[method.__name__].append(float(np.mean((low <= rate) & (rate <= high))))
                    width[method.__name__].append(float(np.mean(np.minimum(high, 1) - np.maximum(low, 0))))
            for name, values in covered.items():
                print(
                    f"{questions:>9} {answers:>8} {name:>12} {np.mean(values):>9.3f} {min(values):>6.3f} "
                    f"{np.mean(width[name]):>6.3f}"
                )


if __name__ == "__main__":
    main()
