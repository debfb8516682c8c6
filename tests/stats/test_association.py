"""Correlations over domain-clustered cells against scipy and naive loops; p-values under the null; the n = 11 traps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from spillover.stats.association import (
    associations,
    critical_r,
    detectable_r,
    exchangeable,
    shuffled,
    weighted_spearman,
)

DOMAINS = [f"d{i:02d}" for i in range(11)]
SLOTS = ["plain/1.0/0", "plain/1.0/1", "plain/0.5/0"]


def population(rng: np.random.Generator, strength: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """A feature and a target that are constants of 11 domains but for small noise over three cells each."""
    domain = [d for d in DOMAINS for _ in SLOTS]
    slot = SLOTS * len(DOMAINS)
    x_D = rng.normal(size=11)
    y_D = strength * x_D + np.sqrt(1 - strength**2) * rng.normal(size=11)
    x_N, y_N = (np.repeat(v, 3) + 0.02 * rng.normal(size=33) for v in (x_D, y_D))
    return x_N, y_N, domain, slot


def test_spearman_and_leave_one_out_are_scipys() -> None:
    x_N, y_N, domain, slot = population(np.random.default_rng(1), 0.7)
    y_N = np.round(y_N, 1)  # ties
    found = associations([x_N], y_N, domain, slot, draws=200)[0]
    assert found.spearman == pytest.approx(scipy_stats.spearmanr(x_N, y_N).statistic, abs=1e-12)
    left_out = [
        scipy_stats.spearmanr(x_N[keep], y_N[keep]).statistic
        for keep in (np.array([d != out for d in domain]) for out in DOMAINS)
    ]
    assert (found.leave_one_out_low, found.leave_one_out_high) == pytest.approx((min(left_out), max(left_out)))
    assert (found.units, found.domains, found.missing, found.permuted) == (33, 11, 0, "blocks")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=9),
)
def test_weights_are_repetitions(rows: list[tuple[int, int, int]]) -> None:
    x_N, y_N, weight_N = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    copies = weight_N.astype(int)
    x_all, y_all = np.repeat(x_N, copies), np.repeat(y_N, copies)
    found = weighted_spearman(x_N[None], y_N, weight_N[None])[0, 0] if copies.sum() else math.nan
    if len(set(x_all)) < 2 or len(set(y_all)) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(scipy_stats.spearmanr(x_all, y_all).statistic, abs=1e-9)


@pytest.mark.slow
def test_the_bootstrap_is_that_of_a_naive_loop_over_domains() -> None:
    x_N, y_N, domain, slot = population(np.random.default_rng(2), 0.6)
    found = associations([x_N], y_N, domain, slot, draws=1500)[0]
    rng = np.random.default_rng(7)
    rows = {d: [i for i, name in enumerate(domain) if name == d] for d in DOMAINS}
    values = []
    for _ in range(1500):
        chosen = [i for d in rng.choice(DOMAINS, 11) for i in rows[d]]
        values.append(scipy_stats.spearmanr(x_N[chosen], y_N[chosen]).statistic)
    assert (found.low, found.high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.06)


def test_permutations_move_whole_domains_and_keep_their_order() -> None:
    x_N, y_N, domain, slot = population(np.random.default_rng(3))
    order = np.random.default_rng(0).permutation(33)
    index = np.array([DOMAINS.index(domain[i]) for i in order])
    slots = np.array([slot[i] for i in order])
    units = exchangeable(x_N[order][None], y_N[order], index, slots)
    blocks = {tuple(y_N[3 * d + np.argsort(SLOTS)]) for d in range(11)}
    for row in shuffled(units, 50, np.random.default_rng(1)):
        assert {tuple(row[places]) for places in units.index_DS} == blocks


def test_unequal_blocks_are_compared_by_their_means() -> None:
    x_N, y_N, domain, slot = population(np.random.default_rng(4), 0.9)
    found = associations([x_N[1:]], y_N[1:], domain[1:], slot[1:], draws=999)[0]
    assert found.permuted == "means"
    means = [[v[1:][np.array(domain[1:]) == d].mean() for d in DOMAINS] for v in (x_N, y_N)]
    naive = scipy_stats.permutation_test(
        (means[0],),
        lambda a: scipy_stats.spearmanr(a, means[1]).statistic,
        permutation_type="pairings",
        n_resamples=999,
        rng=np.random.default_rng(0),
    ).pvalue
    assert found.p == pytest.approx(naive, abs=0.03)


def test_copied_constants_do_not_make_a_finding() -> None:
    """The published trap: ten or eleven constants over thousands of rows are "p = 0.000000" when rows are counted."""
    x_D, y_D = np.arange(11), np.array([8, 3, 7, 5, 10, 9, 0, 6, 2, 1, 4])
    assert -0.6 < scipy_stats.spearmanr(x_D, y_D).statistic < -0.3
    x_N, y_N = np.repeat(x_D, 100), np.repeat(y_D, 100)
    slots = [f"{i:03d}" for i in range(100)] * 11
    assert scipy_stats.spearmanr(x_N, y_N).pvalue < 1e-6
    found = associations([x_N], y_N, [d for d in DOMAINS for _ in range(100)], slots, draws=500)[0]
    assert found.p > 0.05
    assert found.p == pytest.approx(scipy_stats.spearmanr(x_D, y_D).pvalue, abs=0.08)
    assert found.low < 0 < found.high


def test_a_dose_cannot_be_tested_by_permuting_domains() -> None:
    _, y_N, domain, slot = population(np.random.default_rng(5))
    dose_N = np.array([1.0, 1.0, 0.5] * 11)
    found = associations([dose_N], y_N + dose_N, domain, slot, draws=200)[0]
    assert found.spearman > 0
    assert math.isnan(found.p)
    assert math.isnan(found.p_max)


def test_missing_values_are_counted_and_leave_the_family() -> None:
    rng = np.random.default_rng(6)
    x_N, y_N, domain, slot = population(rng, 0.8)
    gap_N = x_N.copy()
    gap_N[4] = np.nan
    y_N[0] = np.nan
    whole, gap, flat = associations([x_N, gap_N, np.zeros(33)], y_N, domain, slot, draws=200)
    assert (whole.units, whole.missing, gap.units, gap.missing) == (32, 1, 31, 2)
    assert not math.isnan(whole.p_max)
    assert math.isnan(gap.p_max)
    assert not math.isnan(gap.p)
    assert math.isnan(flat.spearman)
    two = associations([x_N[3:9]], y_N[3:9], domain[3:9], slot[3:9], draws=50)[0]
    assert two.domains == 2
    assert all(math.isnan(v) for v in (two.spearman, two.low, two.p, two.leave_one_out_low))


@pytest.mark.slow
def test_p_is_uniform_and_p_max_holds_its_level_under_the_null() -> None:
    """Ten correlated useless features at n = 11: the best of them passes 5 % alone far too often, together not."""
    rng = np.random.default_rng(8)
    alone, together = [], []
    for _ in range(200):
        common_D = rng.normal(size=(1, 11))
        x_KD = 0.6 * common_D + 0.8 * rng.normal(size=(10, 11))
        found = associations(x_KD, rng.normal(size=11), DOMAINS, ["one"] * 11, draws=199, seed=int(rng.integers(1e9)))
        alone.append([f.p for f in found])
        together.append(min(f.p_max for f in found))
    first = np.array(alone)[:, 0]
    assert scipy_stats.kstest(first, "uniform").pvalue > 0.001
    assert np.mean(np.array(together) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert np.mean(np.array(alone).min(axis=1) <= 0.05) > 0.15


def test_power_statement_of_eleven_domains() -> None:
    assert critical_r(11) == pytest.approx(0.602, abs=5e-4)
    assert scipy_stats.pearsonr(*_pair_with(critical_r(11), 11)).pvalue == pytest.approx(0.05, abs=1e-9)
    assert detectable_r(11) == pytest.approx(0.76, abs=5e-3)
    rng = np.random.default_rng(9)
    x, e = rng.normal(size=(2, 4000, 11))
    rho = detectable_r(11)
    y = rho * x + math.sqrt(1 - rho**2) * e
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])
    assert np.mean(np.abs(r) > critical_r(11)) == pytest.approx(0.8, abs=0.04)
    assert math.isnan(detectable_r(3))
    assert math.isnan(critical_r(2))


def _pair_with(r: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, e = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, 2))]))[0][:, 1:].T
    return x, r * x + math.sqrt(1 - r**2) * e
