"""Where the variance of a rate or a mean comes from: question, seed, their interaction, and single answers.

Random-effects model of an answer y, with factors f (question, seed, question x seed, ...) of unknown variances:

    y = mu + sum_f effect_f[level] + residual

Henderson's (1953) method I, the analysis of variance for unequal numbers: with T_f = sum over levels of (sum y)^2 / n,
E[T_f] = N mu^2 + sum_g s_g^2 sum_levels(sum_{b of g} n_ab^2 / n_a) + levels_f s_0^2, likewise for the total and for
sum(y^2); as many linear equations as unknowns. Unbiased, for any distribution and any numbers of answers; estimates
below 0, which chance makes of small variances, are cut at 0 and named.

The budget is what each component adds to the variance of the mean of all answers: s_f^2 sum(n_level^2) / N^2.
Judges are few and see the same answers, so what they add to a rate is computed from the rates themselves, paired by
question (`judge_variance`); it weighs 1, because a rate is one judge's.
A factor with one level is indistinguishable from the mean and is left out, as is an interaction that repeats a factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spillover.stats import Floats, Ints
from spillover.stats.clustered import clustered_rates, difference_variance


@dataclass(frozen=True)
class Component:
    """`variance`: of one level's effect, in the squared unit of y. `share`: of the variance of the overall mean."""

    name: str
    levels: int
    variance: float
    contribution: float
    share: float
    cut: bool  # the estimate was negative


def components(
    levels: Mapping[str, ArrayLike], n_T: ArrayLike, sum_T: ArrayLike, squares_T: ArrayLike
) -> list[Component]:
    """Components of every factor, of pairs of factors, and of single answers ("answer", last).

    A row of the table holds the number, the sum and the sum of squares of the answers at one combination of levels. For
    hits the sum of squares is the number of hits.
    """
    n, total, squares = (np.asarray(a, dtype=np.float64) for a in (n_T, sum_T, squares_T))
    codes = {name: _codes(np.asarray(values)) for name, values in levels.items()}
    codes |= {f"{a} x {b}": _codes(np.stack([codes[a], codes[b]], 1)) for a, b in combinations(codes, 2)}
    kept = {name: code for name, code in _distinct(codes).items() if n.sum() > code.max() + 1}
    factors = list(kept.values())
    # Rows: T of the mean, of each factor, of single answers. Columns: mu^2, each factor's variance, the residual's.
    whole = np.zeros(len(n), dtype=np.int64)
    rows = [_equation(whole, factors, n), *(_equation(code, factors, n) for code in factors)]
    rows.append(np.array([n.sum(), *([n.sum()] * len(factors)), n.sum()]))
    sides = [_between(whole, total, n), *(_between(code, total, n) for code in factors), squares.sum()]
    found = np.linalg.lstsq(np.stack(rows), np.array(sides), rcond=None)[0][1:]
    weight = [*((np.bincount(code, n) ** 2).sum() / n.sum() ** 2 for code in factors), 1 / n.sum()]
    variance = np.maximum(found, 0.0)
    scale = squares.sum() / n.sum()
    variance[variance < 1e-12 * scale] = 0.0  # rounding
    contribution = variance * weight
    whole_variance = contribution.sum() or 1.0
    counts = [*(int(code.max()) + 1 for code in factors), int(n.sum())]
    return [
        Component(name, count, float(v), float(c), float(c / whole_variance), bool(raw < -1e-12 * scale))
        for name, count, v, c, raw in zip([*kept, "answer"], counts, variance, contribution, found, strict=True)
    ]


def with_judges(found: list[Component], hits_JQ: ArrayLike, n_JQ: ArrayLike) -> list[Component]:
    """The budget with the part of the judges, one of whom is used: J judges' counts of the same answers by question."""
    rates = clustered_rates(hits_JQ, n_JQ)
    raw = judge_variance(rates.value_C, difference_variance(rates)[0])
    variance = max(raw, 0.0)
    parts = [*found, Component("judge", len(rates.value_C), variance, variance, 0.0, raw < 0)]
    whole = sum(part.contribution for part in parts) or 1.0
    return [replace(part, share=part.contribution / whole) for part in parts]


def judge_variance(estimate_J: ArrayLike, difference_variance_JJ: ArrayLike) -> float:
    """Variance between judges of one rate: half the squared differences, less what sampling makes of them.

    The mean over pairs of ((r_j - r_k)^2 - var(r_j - r_k)) / 2: unbiased, so it may be negative.
    """
    r_J, v_JJ = np.asarray(estimate_J, dtype=np.float64), np.asarray(difference_variance_JJ, dtype=np.float64)
    a, b = np.triu_indices(len(r_J), 1)
    return float(np.mean(((r_J[a] - r_J[b]) ** 2 - v_JJ[a, b]) / 2))


def _codes(values: NDArray[np.generic]) -> Ints:
    return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _distinct(codes: Mapping[str, Ints]) -> dict[str, Ints]:
    """Factors with more than one level that do not repeat an earlier one."""
    kept: dict[str, Ints] = {}
    for name, code in codes.items():
        if code.max(initial=0) > 0 and not any(_same(code, other) for other in kept.values()):
            kept[name] = code
    return kept


def _same(a: Ints, b: Ints) -> bool:
    pairs = len(np.unique(np.stack([a, b], 1), axis=0))
    return pairs == a.max() + 1 == b.max() + 1


def _equation(code: Ints, factors: list[Ints], n: Floats) -> Floats:
    level_n = np.bincount(code, n)
    coefficients = [n.sum()]
    for factor in factors:
        both = np.zeros((int(code.max()) + 1, int(factor.max()) + 1))
        np.add.at(both, (code, factor), n)
        coefficients.append(float(((both**2).sum(1) / level_n).sum()))
    return np.array([*coefficients, float(len(level_n))])


def _between(code: Ints, total: Floats, n: Floats) -> float:
    return float((np.bincount(code, total) ** 2 / np.bincount(code, n)).sum())
