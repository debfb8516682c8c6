"""How often the intervals of membership, diversity and susceptibility hold, and their tests err: `--runs 300`.

Simulated, with a known truth. One line each: what, its nominal value, what was found in so many runs.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy import stats

from spillover.diversity.measures import at_equal_n
from spillover.membership.evaluate import max_statistic_p, separation
from spillover.stats.association import associations
from spillover.stats.prediction import assess, ridge

DOMAINS = [f"d{i:02d}" for i in range(11)]
CELLS = 3


def auc_interval(rng: np.random.Generator, each: int) -> bool:
    """Normal scores one deviation apart."""
    score = np.concatenate([rng.normal(1, 1, each), rng.normal(0, 1, each)])
    found = separation(score, np.arange(2 * each) < each, draws=500, seed=int(rng.integers(2**31)))
    return bool(found.auc_low <= stats.norm.cdf(1 / math.sqrt(2)) <= found.auc_high)


def metrics_err(rng: np.random.Generator, each: int, metrics: int = 14) -> bool:
    """The smallest familywise p of useless, correlated metrics is below .05."""
    scores = rng.normal(size=(1, 2 * each)) + rng.normal(size=(metrics, 2 * each))
    member = np.arange(2 * each) < each
    p = max_statistic_p(scores, member, np.zeros(2 * each), draws=499, seed=int(rng.integers(2**31)))
    return bool(p.min() <= 0.05)


def subsample_interval(rng: np.random.Generator, share: float) -> bool:
    """The mean of 300 numbers, from 40 subsamples."""
    values = rng.normal(size=300)
    seed = int(rng.integers(2**31))
    found = at_equal_n(lambda rows: float(values[rows].mean()), 300, round(300 * share), seed=seed)
    return found.low <= 0 <= found.high


def cells(rng: np.random.Generator, rho: float, features: int) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Eleven domains of three cells; the first feature has Pearson correlation `rho` with the target over domains."""
    x_KD = rng.normal(size=(features, 11))
    y_D = rho * x_KD[0] + math.sqrt(1 - rho**2) * rng.normal(size=11)
    x_KN, y_N = np.repeat(x_KD, CELLS, axis=1), np.repeat(y_D, CELLS)
    names, slots = [d for d in DOMAINS for _ in range(CELLS)], ["a", "b", "c"] * 11
    return x_KN + 0.1 * rng.normal(size=x_KN.shape), y_N + 0.1 * rng.normal(size=y_N.shape), names, slots


def correlation_interval(rng: np.random.Generator, rho: float) -> bool:
    """Spearman's correlation of a normal population is 6 / pi asin(r / 2), for r with the cells' own noise."""
    seed = int(rng.integers(2**31))
    found = associations(*cells(rng, rho, 1), draws=500, seed=seed)[0]
    return found.low <= 6 / math.pi * math.asin(rho / 1.01 / 2) <= found.high


def high_interval(rng: np.random.Generator, rho: float) -> bool:
    """AUC of a normal population cut at its median is 1/2 + 2 / pi asin(r / sqrt 2): an orthant of three normals."""
    found = associations(*cells(rng, rho, 1), draws=500, seed=int(rng.integers(2**31)))[0].above
    return found.low <= 0.5 + 2 / math.pi * math.asin(rho / 1.01 / math.sqrt(2)) <= found.high


def high_errs(rng: np.random.Generator) -> bool:
    """The AUC of one useless feature has p below .05."""
    return associations(*cells(rng, 0.0, 1), draws=499, seed=int(rng.integers(2**31)))[0].above.p <= 0.05


def high_predictor_errs(rng: np.random.Generator) -> bool:
    """The AUC of ridge on ten useless features has p below .05."""
    x_KN, y_N, names, slots = cells(rng, 0.0, 10)
    return assess(ridge, x_KN.T, y_N, names, slots, draws=99, seed=int(rng.integers(2**31))).above.p <= 0.05


def features_err(rng: np.random.Generator, features: int = 40) -> bool:
    """The smallest familywise p of useless features is below .05."""
    found = associations(*cells(rng, 0.0, features), draws=499, seed=int(rng.integers(2**31)))
    return min(f.p_max for f in found) <= 0.05


def rows_err(rng: np.random.Generator) -> bool:
    """What counting every cell as a domain would have said of one useless feature."""
    x_KN, y_N, *_ = cells(rng, 0.0, 1)
    return bool(stats.spearmanr(x_KN[0], y_N).pvalue <= 0.05)


def predictor_errs(rng: np.random.Generator) -> bool:
    """Ridge on ten useless features."""
    x_KN, y_N, names, slots = cells(rng, 0.0, 10)
    return assess(ridge, x_KN.T, y_N, names, slots, draws=99, seed=int(rng.integers(2**31))).p <= 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    trials = {
        "AUC interval, 40 texts each, holds": (
            95, lambda rng: auc_interval(rng, 40)),
        "AUC interval, 20 texts each, holds": (95, lambda rng: auc_interval(rng, 20)),
        "14 useless metrics, 20 texts each, one passes": (5, lambda rng: metrics_err(rng, 20)),
        "subsample interval of a mean, half of the rows, holds": (95, lambda rng: subsample_interval(rng, 0.5)),
        "subsample interval of a mean, 80 % of the rows, holds": (95, lambda rng: subsample_interval(rng, 0.8)),
        "Spearman interval, 11 domains, rho 0, holds": (95, lambda rng: correlation_interval(rng, 0.0)),
        "Spearman interval, 11 domains, rho 0.8, holds": (95, lambda rng: correlation_interval(rng, 0.8)),
        "40 useless features, 11 domains, one passes": (5, features_err),
        "one useless feature, its 33 cells counted as independent, passes": (5, rows_err),
        "ridge on 10 useless features passes": (5, predictor_errs),
        "AUC interval of high cells, 11 domains, rho 0, holds": (95, lambda rng: high_interval(rng, 0.0)),
        "AUC interval of high cells, 11 domains, rho 0.8, holds": (95, lambda rng: high_interval(rng, 0.8)),
        "AUC of high cells, one useless feature passes": (5, high_errs),
        "AUC of high cells, ridge on 10 useless features passes": (5, high_predictor_errs),
    }  # fmt: skip
    for place, (what, (nominal, trial)) in enumerate(trials.items()):
        rng = np.random.default_rng([7, place])
        print(f"{what:70s} nominal {nominal:2d} %  found {100 * np.mean([trial(rng) for _ in range(runs)]):5.1f} %")


if __name__ == "__main__":
    main()
