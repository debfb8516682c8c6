"""Effects beside those of random directions, against scipy, naive sums and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from spillover.directions.random_controls import against_controls, compare_with_random, pooled_control_sd
from spillover.records.base import Cell
from spillover.records.steering import SteeringEffect
from spillover.stats import Floats

BASE = Cell(model="m", domain="none", variant="base", dose=0.0)


def effect(
    value: float | None, direction: str = "random", control: int | None = None, model: str = "m", p: float = 0.0
) -> SteeringEffect:
    return SteeringEffect(
        onto=BASE.model_copy(update={"domain": model}), direction=direction, source="", labels="",
        control=control, operation="add", at="answer", layer=3, measure="rate", judge="j", coefficients=(0.0, 1.0),
        n=9, questions=3,
        value=value, low=None, high=None, p=p,
    )  # fmt: skip


@pytest.mark.slow
def test_a_direction_is_held_against_a_further_random_one() -> None:
    rng = np.random.default_rng(0)
    draws, false, inside = 3000, 0, 0
    for _ in range(draws):
        controls = [effect(float(v), control=i) for i, v in enumerate(rng.normal(3, 2, 5))]
        (found,) = against_controls([*controls, effect(float(rng.normal(3, 2)), "gore")], 0.95)
        assert found.p_controls is not None
        assert found.value is not None
        assert found.controls_low is not None
        assert found.controls_high is not None
        false += found.p_controls < 0.05
        inside += found.controls_low <= found.value <= found.controls_high
        assert found.controls == 5
    assert false / draws == pytest.approx(0.05, abs=0.012)  # three standard errors
    assert inside == draws - false


def test_what_random_directions_do_not_do_must_hold_over_questions_too() -> None:
    controls = [effect(0.0, control=i) for i in range(5)] + [effect(0.1, control=5)]
    rows = [effect(0.5, "gore", p=0.2), effect(0.5, "math", p=0.01), effect(0.0, "code", p=1.0)]
    found = against_controls([*controls, *rows], 0.95)
    assert [row.p_controls is not None and row.p_controls < 0.001 for row in found] == [True, True, False]
    assert [row.p_holm for row in found[:2]] == [0.2, 0.01]


def test_the_spread_of_controls_is_pooled_over_models_each_around_its_own_mean() -> None:
    rng = np.random.default_rng(1)
    values = {"a": rng.normal(0, 1, 4), "b": rng.normal(50, 1, 4)}
    rows = [effect(float(v), control=i, model=m) for m, of in values.items() for i, v in enumerate(of)]
    found = against_controls([*rows, effect(3.0, "gore", model="a"), effect(None, "gore", model="b")], 0.95)
    deviation = np.sqrt(sum(of.var(ddof=1) for of in values.values()) / 2)

    variance, together = sum(of.var(ddof=1) for of in values.values()), np.cov(values["a"], values["b"])[0, 1]
    squared = sum(of.var(ddof=1) ** 2 for of in values.values()) + 2 * together**2
    half = t.ppf(0.975, 3 * variance**2 / squared) * deviation * np.sqrt(1.25)
    assert found[0].controls_high == pytest.approx(values["a"].mean() + half)
    assert found[1].p_controls is None
    assert found[0].p_holm == found[0].p_controls
    two = against_controls([*rows, effect(3.0, "gore", model="a"), effect(48.0, "gore", model="b")], 0.95)
    p = sorted(e.p_controls for e in two if e.p_controls is not None)
    assert sorted(e.p_holm for e in two if e.p_holm is not None) == pytest.approx([2 * p[0], max(2 * p[0], p[1])])


def test_models_that_move_as_one_say_no_more_than_one_of_them() -> None:
    values = np.random.default_rng(2).normal(size=6)
    rows = [effect(float(v) + 9 * i, control=r, model=m) for i, m in enumerate("abcd") for r, v in enumerate(values)]
    (alone,) = against_controls([*rows[:6], effect(3.0, "gore", model="a")], 0.95)
    together, *_ = against_controls([*rows, effect(3.0, "gore", model="a")], 0.95)
    for name in ("controls", "controls_mean", "controls_low", "controls_high", "p_controls"):
        assert getattr(together, name) == pytest.approx(getattr(alone, name))


def test_a_control_that_could_not_be_measured_in_one_model_is_left_out_there_alone() -> None:
    values = np.random.default_rng(3).normal(size=(5, 2))
    values[1, 0] = np.nan
    known = [[None if np.isnan(v) else float(v) for v in row] for row in values]
    rows = [effect(v, control=r, model=m) for r, row in enumerate(known) for m, v in zip("ab", row, strict=True)]
    found, whole = against_controls([*rows, effect(1.0, "gore", model="a"), effect(1.0, "gore", model="b")], 0.95)
    deviation, df = pooled_control_sd(values)
    assert (found.controls, whole.controls) == (4, 5)
    assert found.p_controls == pytest.approx(
        2 * t.sf(abs(1 - np.nanmean(values[:, 0])) / (deviation * np.sqrt(1.25)), df)
    )


@pytest.mark.slow
def test_a_table_of_random_directions_that_move_models_together_seldom_has_a_star() -> None:
    """Eleven directions and six controls in six models; with the degrees of freedom of all models 14 % have one."""
    rng, draws, false = np.random.default_rng(0), 100, 0
    for _ in range(draws):
        values = rng.normal(size=(17, 1)) + 0.2 * rng.normal(size=(17, 6))
        rows = [
            effect(float(value), direction=f"d{r}", control=r if r < 6 else None, model=f"m{b}")
            for r, row in enumerate(values)
            for b, value in enumerate(row)
        ]
        false += any((e.p_holm or 0) < 0.05 for e in against_controls(rows, 0.95))
    assert false / draws < 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)


def test_controls_that_do_nothing_at_all_say_only_that_none_was_as_large() -> None:
    still = [effect(0.0, control=i) for i in range(4)]
    moved, stood = against_controls([*still, effect(0.2, "gore"), effect(0.0, "math")], 0.95)
    assert moved.p_controls == pytest.approx(1 / 5)
    assert stood.p_controls == 1
    (alone,) = against_controls([effect(0.2, "gore")], 0.95)
    assert (alone.controls, alone.p_controls, alone.p_holm) == (0, None, None)


def test_the_spread_of_one_column_is_the_ordinary_one_and_columns_that_move_as_one_count_once() -> None:
    values = np.random.default_rng(0).normal(size=6)
    assert pooled_control_sd(values[:, None]) == pytest.approx((values.std(ddof=1), 5))
    assert pooled_control_sd(np.repeat(values[:, None], 7, axis=1) + np.arange(7)) == pytest.approx(
        (values.std(ddof=1), 5)
    )
    apart = pooled_control_sd(np.random.default_rng(1).normal(size=(4000, 7)))
    assert apart == pytest.approx((1, 7 * 3999), rel=0.02)


def test_columns_that_were_not_measured_or_did_not_move_are_no_evidence() -> None:
    values = np.random.default_rng(0).normal(size=(6, 2))
    empty = np.full((6, 1), np.nan)
    assert pooled_control_sd(np.hstack([values, empty])) == pytest.approx(pooled_control_sd(values))
    holes = values.copy()
    holes[0, 1] = np.nan
    deviation, df = pooled_control_sd(holes)
    parts = [values[:, 0], values[1:, 1]]
    assert deviation == pytest.approx(np.sqrt(sum(((v - v.mean()) ** 2).sum() for v in parts) / 9))
    assert 4 < df <= 9
    assert np.isnan(pooled_control_sd(empty)).all()
    assert pooled_control_sd(np.zeros((6, 3))) == (0, 15)


def any_told(values_RB: Floats, of_AB: Floats, off_AB: np.ndarray) -> bool:
    """By Holm, of which the smallest p decides: that of the square farthest from its controls' mean."""
    away_AB = np.where(off_AB, np.abs(of_AB - values_RB.mean(0)), 0.0)
    a, b = np.unravel_index(away_AB.argmax(), away_AB.shape)
    p = compare_with_random(float(of_AB[a, b]), values_RB[:, b].tolist(), *pooled_control_sd(values_RB), 0.95)[
        "p_controls"
    ]
    return p * off_AB.sum() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
def test_directions_that_are_random_too_are_seldom_told_from_them(together: float) -> None:
    """Eleven directions, eleven domains, six questions and six controls; `together`: what moves all columns of one."""
    rng, draws, false = np.random.default_rng(0), 1000, 0
    for _ in range(draws):
        shift = together * rng.normal(size=(17, 1)) + rng.normal(-1.2, 1, 11)
        latent = shift[:, :, None] + rng.normal(size=(11, 6)) + rng.logistic(size=(17, 11, 6))
        values = (latent > 0).mean(2)
        false += any_told(values[:6], values[6:], ~np.eye(11, dtype=bool))
    assert false / draws < 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)
