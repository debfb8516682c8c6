"""Left-out predictions against sklearn fold by fold; planted signals are found, noise is not, leaks would shine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spillover.stats.prediction import ALPHAS, assess, boosting, fit_ridge, mean_of_others, ridge

DOMAINS, CELLS = 11, 6
DOMAIN = np.repeat(np.arange(DOMAINS), CELLS)
NAMES = [f"d{d:02d}" for d in DOMAIN]
SLOTS = [f"s{i}" for i in range(CELLS)] * DOMAINS


def cells(rng: np.random.Generator, signal: float, features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Features and a target that belong to domains, with a little noise on each cell."""
    x_DK = rng.normal(size=(DOMAINS, features))
    y_D = signal * x_DK[:, 0] + rng.normal(size=DOMAINS)
    return x_DK[DOMAIN] + 0.05 * rng.normal(size=(len(DOMAIN), features)), y_D[DOMAIN] + 0.05 * rng.normal(size=66)


@pytest.mark.slow
def test_ridge_is_sklearns_with_scaler_and_penalty_inside_the_fold() -> None:
    x_NK, y_N = (part[:30] for part in cells(np.random.default_rng(0), 2.0))
    domain = DOMAIN[:30]
    x_NK[:, 2] *= 1000
    naive = np.empty(len(y_N))
    for train, test in LeaveOneGroupOut().split(x_NK, y_N, domain):
        errors = []
        for alpha in ALPHAS:
            inner = cross_val_predict(
                make_pipeline(StandardScaler(), Ridge(alpha)),
                x_NK[train], y_N[train], groups=domain[train], cv=LeaveOneGroupOut(),
            )  # fmt: skip
            errors.append(((inner - y_N[train]) ** 2).sum())
        model = make_pipeline(StandardScaler(), Ridge(ALPHAS[int(np.argmin(errors))]))
        naive[test] = model.fit(x_NK[train], y_N[train]).predict(x_NK[test])
    assert ridge(x_NK, y_N[:, None], domain)[:, 0] == pytest.approx(naive, abs=1e-8)


def test_many_targets_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(1)
    x_NK, y_N = cells(rng, 1.0)
    y_NB = np.column_stack([y_N, *(rng.permutation(y_N) for _ in range(3))])
    together = ridge(x_NK, y_NB, DOMAIN)
    assert together == pytest.approx(np.column_stack([ridge(x_NK, y[:, None], DOMAIN) for y in y_NB.T]), abs=1e-10)


def test_boosting_is_sklearns_by_group() -> None:
    x_NK, y_N = cells(np.random.default_rng(2), 2.0, 3)
    model = GradientBoostingRegressor(
        n_estimators=30, max_depth=2, learning_rate=0.2, max_features="sqrt", random_state=0
    )
    naive = cross_val_predict(make_pipeline(StandardScaler(), model), x_NK, y_N, groups=DOMAIN, cv=LeaveOneGroupOut())
    assert boosting(x_NK, y_N[:, None], DOMAIN)[:, 0] == pytest.approx(naive, abs=1e-8)


def test_a_planted_signal_is_found() -> None:
    x_NK, y_N = cells(np.random.default_rng(3), 6.0)
    found = assess(ridge, x_NK, y_N, NAMES, SLOTS, draws=199)
    assert found.p <= 0.01
    assert found.error < 0.7 * found.error_of_mean
    assert found.spearman > 0.6
    assert found.low <= found.spearman <= found.high
    naive = [abs(y - y_N[d != DOMAIN].mean()) for y, d in zip(y_N, DOMAIN, strict=True)]
    assert found.error_of_mean == pytest.approx(np.mean(naive))


@pytest.mark.slow
def test_noise_has_no_skill_and_a_uniform_p() -> None:
    rng = np.random.default_rng(4)
    found = [assess(ridge, *cells(rng, 0.0, 4), NAMES, SLOTS, draws=59, seed=int(rng.integers(1e9))) for _ in range(60)]
    p = np.array([f.p for f in found])
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(p <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert np.median([f.error / f.error_of_mean for f in found]) > 0.95


def test_a_row_level_split_looks_good_where_there_is_nothing() -> None:
    """The published trap: features that name the domain predict its constant once its rows stand on both sides."""
    x_NK, y_N = cells(np.random.default_rng(5), 0.0, 12)
    leaky = cross_val_predict(
        make_pipeline(StandardScaler(), Ridge(0.1)), x_NK, y_N, cv=KFold(5, shuffle=True, random_state=0)
    )
    assert scipy_stats.spearmanr(leaky, y_N).statistic > 0.9
    honest = assess(ridge, x_NK, y_N, NAMES, SLOTS, draws=99)
    assert honest.spearman < 0.4
    assert honest.error > 0.9 * honest.error_of_mean
    assert honest.p > 0.05


def test_saying_the_mean_of_the_others_is_negatively_correlated() -> None:
    """Why a correlation of left-out predictions has no null at 0."""
    _, y_N = cells(np.random.default_rng(6), 0.0)
    assert scipy_stats.spearmanr(mean_of_others(y_N[:, None], DOMAIN)[:, 0], y_N).statistic < -0.9


def test_gaps_are_filled_from_the_training_domains() -> None:
    x_NK, y_N = cells(np.random.default_rng(7), 2.0)
    gaps_NK = x_NK.copy()
    gaps_NK[DOMAIN == 3, 1] = np.nan
    filled_NK = x_NK.copy()
    filled_NK[DOMAIN == 3, 1] = x_NK[DOMAIN != 3, 1].mean()
    said = ridge(gaps_NK, y_N[:, None], DOMAIN)[DOMAIN == 3]
    assert said == pytest.approx(ridge(filled_NK, y_N[:, None], DOMAIN)[DOMAIN == 3])
    assert np.isfinite(boosting(gaps_NK, y_N[:, None], DOMAIN)).all()


def test_unequal_blocks_are_permuted_as_means() -> None:
    x_NK, y_N = cells(np.random.default_rng(8), 3.0, 3)
    found = assess(ridge, x_NK[1:], y_N[1:], NAMES[1:], SLOTS[1:], draws=99)
    assert found.permuted == "means"
    assert found.p <= 0.05
    assert len(found.prediction_N) == 65


def test_the_kept_fit_is_sklearns() -> None:
    x_NK, y_N = cells(np.random.default_rng(9), 2.0)
    x_NK[:, 1] = 7.0
    fit = fit_ridge(x_NK, y_N, NAMES)
    said = fit.intercept + (x_NK - fit.centre_K) / fit.scale_K @ fit.weight_K
    naive = make_pipeline(StandardScaler(), Ridge(fit.alpha)).fit(x_NK, y_N)
    assert said == pytest.approx(naive.predict(x_NK), abs=1e-9)
    assert fit.weight_K[1] == pytest.approx(0, abs=1e-12)


def test_two_domains_are_refused() -> None:
    x_NK, y_N = cells(np.random.default_rng(0), 1.0)
    with pytest.raises(ValueError, match="2 domains"):
        assess(ridge, x_NK[:12], y_N[:12], NAMES[:12], SLOTS[:12])
