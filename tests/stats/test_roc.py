"""AUC against scipy and naive loops, its resamples, permutations of whole domains, its curve, and held-out scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from spillover.stats.association import associations
from spillover.stats.prediction import assess, mean_of_others, ridge
from spillover.stats.roc import (
    RIDGE,
    auc,
    auc_error,
    curve,
    held_out_scores,
    high_cut,
    paired_auc,
    rank_auc,
    weighted_auc,
)

DOMAINS = 11
DOMAIN = np.repeat(np.arange(DOMAINS), 3)
NAMES = [f"d{d:02d}" for d in DOMAIN]
SLOTS = ["a", "b", "c"] * DOMAINS


def population(rng: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
    x_D = rng.normal(size=DOMAINS)
    y_D = strength * x_D + np.sqrt(1 - strength**2) * rng.normal(size=DOMAINS)
    return x_D[DOMAIN] + 0.05 * rng.normal(size=33), y_D[DOMAIN] + 0.05 * rng.normal(size=33)


def test_auc_is_sklearns_and_the_cut_counts_each_domain_once() -> None:
    x_N, y_N = population(np.random.default_rng(0), 0.6)
    x_N = np.round(x_N, 1)  # ties
    found = associations([x_N], y_N, NAMES, SLOTS, draws=200)[0].above
    assert found.cut == pytest.approx(np.median(y_N.reshape(DOMAINS, 3).mean(axis=1)))
    high_N = y_N > found.cut
    assert found.auc == pytest.approx(roc_auc_score(high_N, x_N))
    assert found.count == high_N.sum()
    assert found.low <= found.auc <= found.high
    # A domain with ten times the cells moves the cut no further than another.
    crowded = np.concatenate([y_N, np.repeat(y_N[:3].max(), 30)])
    assert high_cut(crowded, np.concatenate([DOMAIN, np.zeros(30, int)])) == pytest.approx(found.cut, abs=0.2)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=9))
def test_weights_are_repetitions(rows: list[tuple[int, bool, int]]) -> None:
    x_N, high_N, weight_N = (np.array(column) for column in zip(*rows, strict=True))
    found = weighted_auc(x_N[None].astype(float), high_N, weight_N[None].astype(float))[0, 0]
    x_all, high_all = np.repeat(x_N, weight_N), np.repeat(high_N, weight_N)
    if not 0 < high_all.sum() < len(high_all):
        assert math.isnan(found)
        assert math.isnan(auc(x_all, high_all))
    else:
        assert found == pytest.approx(roc_auc_score(high_all, x_all))
        rank_N = scipy_stats.rankdata(x_all)
        assert rank_auc(rank_N[None], high_all[None])[0, 0] == pytest.approx(found)
        assert paired_auc(x_all[None].astype(float), high_all[None])[0] == auc(x_all, high_all) == pytest.approx(found)


@pytest.mark.slow
def test_p_permutes_whole_domains() -> None:
    """Cells of a domain move together: 33 cells of 11 constants must not pass as 33 independent ones."""
    rng = np.random.default_rng(5)
    p = np.array([
        associations([x_N], y_N, NAMES, SLOTS, draws=199)[0].above.p
        for x_N, y_N in (population(rng, 0.0) for _ in range(200))
    ])  # fmt: skip
    assert 0.01 <= (p <= 0.05).mean() <= 0.10
    x_N, y_N = population(rng, 0.97)
    found = associations([x_N, rng.normal(size=DOMAINS)[DOMAIN]], y_N, NAMES, SLOTS, draws=999)
    assert found[0].above.p <= 0.01
    assert found[0].above.p <= found[0].above.p_max <= 0.05
    reverse = associations([-x_N], y_N, NAMES, SLOTS, draws=999)[0].above
    assert (reverse.auc, reverse.p) == pytest.approx((1 - found[0].above.auc, found[0].above.p))


def test_a_feature_of_doses_has_an_auc_and_no_p() -> None:
    rng = np.random.default_rng(6)
    dose_N = np.tile([0.1, 0.5, 1.0], DOMAINS)
    found = associations([dose_N], dose_N + 0.1 * rng.normal(size=33), NAMES, SLOTS, draws=99)[0].above
    assert found.auc > 0.9
    assert math.isnan(found.p)


def test_the_curve_has_both_rates_with_their_intervals() -> None:
    x_N, y_N = population(np.random.default_rng(8), 0.5)
    found = associations([x_N], y_N, NAMES, SLOTS, draws=300)[0].above
    high_N = y_N > found.cut
    assert 5 <= len(found.curve) <= 9
    for x, false, true in found.curve:
        assert false[0] == pytest.approx((x_N[~high_N] > x).mean())
        assert true[0] == pytest.approx((x_N[high_N] > x).mean())
        assert false[1] <= false[0] <= false[2]
        assert true[1] <= true[0] <= true[2]
    assert curve(x_N, np.ones(33, bool), np.ones((2, 33)), 0.95) == ()


def test_without_a_high_cell_nothing_is_said() -> None:
    found = associations([np.arange(33.0)], np.zeros(33), NAMES, SLOTS, draws=50)[0].above
    assert math.isnan(found.auc)
    assert math.isnan(found.p)
    assert found.count == 0


def test_a_predictors_null_is_refitted() -> None:
    """Always saying the others' mean ranks high domains low: an AUC near 0 that says nothing, and p must know it."""
    rng = np.random.default_rng(9)
    x_NK = rng.normal(size=(DOMAINS, 4))[DOMAIN]
    y_N = rng.normal(size=DOMAINS)[DOMAIN] + 0.01 * rng.normal(size=33)
    blind = assess(lambda x, y, d: mean_of_others(y, d), x_NK, y_N, NAMES, SLOTS, draws=99)
    assert blind.above.auc < 0.1
    assert blind.above.p > 0.05
    strong = assess(ridge, x_NK, 3 * x_NK[:, 0] + 0.01 * y_N, NAMES, SLOTS, draws=99)
    assert strong.above.auc > 0.9
    assert strong.above.p <= 0.02
    assert strong.above.low <= strong.above.auc <= strong.above.high


def test_held_out_scores_are_those_of_the_stated_objective() -> None:
    """Five folds of whole groups, standardised by the other four, fitted there by scipy's minimiser."""
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(60), 5)
    x_NF = 3 + 2 * rng.normal(size=(300, 3))
    y_N = rng.random(300) < 1 / (1 + np.exp(-(x_NF @ [0.5, -1.0, 0.0] + 1.5)))
    found_N = held_out_scores(x_NF, y_N, group_N)
    fold_N = np.random.default_rng(0).permutation(60)[group_N] % 5
    for fold in range(5):
        held_N = fold_N == fold
        mean_F, std_F = x_NF[~held_N].mean(0), x_NF[~held_N].std(0)
        z_NF, sign_N = (x_NF - mean_F) / std_F, np.where(y_N, 1, -1)

        def objective(w_G: np.ndarray, z_NF: np.ndarray = z_NF[~held_N], sign_N: np.ndarray = sign_N[~held_N]) -> float:
            loss_N = np.logaddexp(0, -sign_N * (z_NF @ w_G[:-1] + w_G[-1]))
            return float(loss_N.mean() + RIDGE / 2 * (w_G[:-1] ** 2).sum())

        w_G = optimize.minimize(objective, np.zeros(4), tol=1e-10).x
        np.testing.assert_allclose(found_N[held_N], z_NF[held_N] @ w_G[:-1] + w_G[-1], atol=1e-3)


def test_held_out_scores_are_finite_where_classes_separate_and_a_feature_is_constant() -> None:
    y_N = np.arange(40) % 2 == 0
    score_N = held_out_scores(np.column_stack([y_N, np.ones(40)]), y_N, np.arange(40) // 2)
    assert np.isfinite(score_N).all()
    assert auc(score_N, y_N) == 1


def test_the_error_of_an_auc_is_its_spread_over_samples() -> None:
    rng = np.random.default_rng(0)
    areas: list[float] = []
    for _ in range(2000):
        scores_N = np.concatenate([rng.normal(1.0, 1.0, 60), rng.normal(0.0, 1.0, 90)])
        areas.append(auc(scores_N, np.arange(150) < 60))
    assert auc_error(float(np.mean(areas)), 60, 90) == pytest.approx(float(np.std(areas)), rel=0.1)


def test_cross_validation_finds_nothing_in_noise_and_keeps_a_group_together() -> None:
    rng = np.random.default_rng(0)
    groups_N = np.repeat(np.arange(100), 6)
    x_NF = rng.normal(size=(100, 15))[groups_N]  # rows of a group are alike, and so are their classes
    y_N = (rng.random(100) < 0.5)[groups_N]
    together = auc(held_out_scores(x_NF, y_N, groups_N), y_N)
    apart = auc(held_out_scores(x_NF, y_N, np.arange(600)), y_N)
    assert abs(together - 0.5) < 0.15
    assert apart > together + 0.1
