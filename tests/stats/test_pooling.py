"""Effects pooled over domains and rates over several seeds, against statsmodels, closed forms and laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.meta_analysis import combine_effects

from spillover.stats import clustered as stats
from spillover.stats.pooling import paule_mandel, pool, seed_rates

EFFECTS = arrays(np.float64, 6, elements=st.floats(-40, 40))
VARIANCES = arrays(np.float64, 6, elements=st.floats(0.1, 50))


def example(seed: int, domains: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.5, 6, domains)
    return rng.normal(-4, 5, domains) + rng.normal(0, np.sqrt(variance)), variance


@pytest.mark.parametrize("seed", range(8))
def test_pooled_effect_solves_the_equation_of_paule_and_mandel(seed: int) -> None:
    """sum w (y - mean)^2 = k - 1 with w = 1 / (v + tau^2), by scipy's root finder; then Hartung and Knapp's formula."""
    effect, variance = example(seed)

    def excess(tau2: float) -> float:
        weight = 1 / (variance + tau2)
        return float(weight @ (effect - np.average(effect, weights=weight)) ** 2 - (len(effect) - 1))

    tau2 = optimize.brentq(excess, 0, 1e4, xtol=1e-12) if excess(0) > 0 else 0.0
    weight = 1 / (variance + tau2)
    mean = np.average(effect, weights=weight)
    found = pool(effect, variance, 0.95)
    assert found.tau_S[0] ** 2 == pytest.approx(tau2, rel=1e-6, abs=1e-9)
    assert found.value_S[0] == pytest.approx(mean, rel=1e-6)
    scale = max(1.0, float(weight @ (effect - mean) ** 2) / (len(effect) - 1))
    half = scipy_stats.t.ppf(0.975, len(effect) - 1) * np.sqrt(scale / weight.sum())
    assert found.high_S[0] - found.value_S[0] == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 4])  # for others statsmodels' iteration ends at 0 on some processors
def test_pooled_effect_agrees_with_statsmodels(seed: int) -> None:
    effect, variance = example(seed)
    found = pool(effect, variance, 0.95)
    reference: Any = combine_effects(  # statsmodels has no types
        effect, variance, method_re="iterated", use_t=True, atol=1e-14, maxiter=10_000
    )
    assert found.tau_S[0] ** 2 == pytest.approx(reference.tau2, rel=1e-9)
    assert found.value_S[0] == pytest.approx(reference.mean_effect_re, rel=1e-9)
    hartung_knapp = float(reference.sd_eff_w_re_hksj)
    assert reference.scale_hksj_re >= 1 - 1e-9  # our floor of 1 leaves it as it is
    half = scipy_stats.t.ppf(0.975, len(effect) - 1) * hartung_knapp
    assert found.high_S[0] - found.value_S[0] == pytest.approx(half, rel=1e-9)


def test_equal_variances_are_the_t_test_over_domains() -> None:
    effect, _ = example(7)
    found = pool(effect, np.full(8, 0.01), 0.95)
    reference: Any = scipy_stats.ttest_1samp(effect, 0)
    assert found.value_S[0] == pytest.approx(effect.mean())
    assert found.p_S[0] == pytest.approx(reference.pvalue, rel=1e-9)
    assert found.tau_S[0] ** 2 == pytest.approx(effect.var(ddof=1) - 0.01, rel=1e-9)


def test_agreeing_domains_have_no_spread_and_are_pooled_whole() -> None:
    found = pool(np.array([1.0, 1.1, 0.9]), np.full(3, 4.0), 0.95)
    assert found.tau_S[0] == 0
    np.testing.assert_allclose(found.shrunken_SK, 1.0)
    assert found.high_S[0] - 1 == pytest.approx(scipy_stats.t.ppf(0.975, 2) * np.sqrt(4 / 3))


def test_shared_questions_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(0, 1, (1, 8)) + rng.normal(0, 0.1, (5, 8))
    influence = (common - common.mean(1, keepdims=True)) / 8
    variance = 8 / 7 * (influence**2).sum(1)
    effect = rng.normal(1, 0.01, 5)
    alone, shared = pool(effect, variance, 0.95), pool(effect, variance, 0.95, influence)
    assert shared.high_S[0] - shared.low_S[0] > 1.5 * (alone.high_S[0] - alone.low_S[0])


@given(EFFECTS, VARIANCES)
def test_intervals_hold_their_values_and_order_changes_nothing(effect: np.ndarray, variance: np.ndarray) -> None:
    found, turned = pool(effect, variance, 0.95), pool(effect[::-1], variance[::-1], 0.95)
    assert found.low_S[0] < found.value_S[0] < found.high_S[0]
    assert (found.shrunken_low_SK <= found.shrunken_SK).all()
    assert min(effect) - 1e-9 <= found.value_S[0] <= max(effect) + 1e-9
    tolerance = 1e-6 * (1 + np.abs(effect).max())
    assert turned.value_S[0] == pytest.approx(found.value_S[0], abs=tolerance)
    np.testing.assert_allclose(turned.shrunken_SK[:, ::-1], found.shrunken_SK, atol=tolerance)


@given(EFFECTS, VARIANCES, st.floats(-20, 20))
def test_a_shift_of_all_effects_shifts_the_pooled_one(effect: np.ndarray, variance: np.ndarray, by: float) -> None:
    first, second = pool(effect, variance, 0.95), pool(effect + by, variance, 0.95)
    assert second.value_S[0] == pytest.approx(first.value_S[0] + by, abs=1e-6)
    assert second.tau_S[0] ** 2 == pytest.approx(first.tau_S[0] ** 2, abs=1e-6)


def test_studies_are_independent_of_their_neighbours() -> None:
    rows = [example(seed) for seed in range(4)]
    together = pool(np.stack([y for y, _ in rows]), np.stack([v for _, v in rows]), 0.9)
    for s, (y, v) in enumerate(rows):
        assert pool(y, v, 0.9).low_S[0] == pytest.approx(together.low_S[s], rel=1e-9)
    assert paule_mandel(np.ones((1, 3)), np.ones((1, 3)))[0] == 0


def test_one_domain_cannot_be_pooled() -> None:
    with pytest.raises(ValueError, match="two effects"):
        pool(np.array([1.0]), np.array([1.0]), 0.95)


SHARES = arrays(np.float64, (1, 3, 6), elements=st.floats(0, 1))


def test_seeds_that_answer_alike_add_little_and_seeds_that_differ_add_much() -> None:
    n = np.full((2, 3, 8), 40.0)
    alike = np.tile(np.array([2, 8, 4, 0, 6, 3, 9, 1]), (3, 1))
    apart = alike + np.array([[-0.0], [10.0], [20.0]])
    found = seed_rates(np.stack([alike, apart]), n, 0.95)
    assert found.value_C == pytest.approx([alike.sum() / 960, apart.sum() / 960])
    assert found.seed_deviation_C[0] == 0
    assert found.seed_deviation_C[1] == pytest.approx(np.std([0, 0.25, 0.5], ddof=1), rel=0.05)
    width = found.high_C - found.low_C
    assert width[1] > 2 * width[0]
    one = stats.clustered_rates(alike.sum(0), np.full(8, 120.0))
    low, high = stats.rate_intervals(one, 0.95)
    assert width[0] >= high[0] - low[0]


@given(SHARES)
def test_the_interval_holds_the_rate_and_order_changes_nothing(share: np.ndarray) -> None:
    n = np.full(share.shape, 20.0)
    hits = np.floor(share * 20)
    found, turned = seed_rates(hits, n, 0.95), seed_rates(hits[:, ::-1, ::-1], n, 0.95)
    assert 0 <= found.low_C[0] <= found.value_C[0] <= found.high_C[0] <= 1
    assert (turned.low_C[0], turned.high_C[0]) == pytest.approx((found.low_C[0], found.high_C[0]), abs=1e-9)


def test_no_hits_have_an_interval_too() -> None:
    found = seed_rates(np.zeros((1, 2, 8)), np.full((1, 2, 8), 50.0), 0.95)
    assert found.low_C[0] == 0
    assert 0.02 < found.high_C[0] < 0.15
