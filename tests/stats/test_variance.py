"""Variance components against balanced closed forms, statsmodels and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from spillover.stats.variance import Component, components, judge_variance, with_judges


def by_name(found: list[Component]) -> dict[str, Component]:
    return {component.name: component for component in found}


def balanced(seed: int, questions: int = 12, answers: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    question = np.repeat(np.arange(questions), answers)
    return question, 50 + 9 * rng.standard_normal(questions)[question] + rng.normal(0, 14, questions * answers)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_one_way_is_the_analysis_of_variance(seed: int) -> None:
    _question, y = balanced(seed)
    table = y.reshape(12, 9)
    within = table.var(1, ddof=1).mean()
    between = table.mean(1).var(ddof=1) - within / 9
    found = by_name(components({"question": np.arange(12)}, np.full(12, 9), table.sum(1), (table**2).sum(1)))
    assert found["answer"].variance == pytest.approx(within, rel=1e-9)
    assert found["question"].variance == pytest.approx(between, rel=1e-9)
    assert found["question"].contribution == pytest.approx(between / 12, rel=1e-9)
    assert found["question"].share + found["answer"].share == pytest.approx(1)


def test_balanced_one_way_agrees_with_a_mixed_model() -> None:
    question, y = balanced(4)
    fit = smf.mixedlm("y ~ 1", pd.DataFrame({"y": y, "q": question}), groups="q").fit(reml=True)
    table = y.reshape(12, 9)
    found = by_name(components({"question": np.arange(12)}, np.full(12, 9), table.sum(1), (table**2).sum(1)))
    assert found["question"].variance == pytest.approx(float(fit.cov_re.iloc[0, 0]), rel=1e-4)
    assert found["answer"].variance == pytest.approx(fit.scale, rel=1e-4)


def test_balanced_two_way_is_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(5)
    seeds, questions, n = 4, 6, 7
    y = 20 * rng.standard_normal((seeds, 1, 1)) + 10 * rng.standard_normal((1, questions, 1))
    y = y + 5 * rng.standard_normal((seeds, questions, 1)) + 8 * rng.standard_normal((seeds, questions, n))
    within = y.var(2, ddof=1).mean()
    m = y.mean(2)
    rest = m - m.mean(1, keepdims=True) - m.mean(0, keepdims=True) + m.mean()
    both = (rest**2).sum() / ((seeds - 1) * (questions - 1))
    expected = {
        "seed": m.mean(1).var(ddof=1) - both / questions,
        "question": m.mean(0).var(ddof=1) - both / seeds,
        "seed x question": both - within / n,
        "answer": within,
    }
    levels = {"seed": np.repeat(np.arange(seeds), questions), "question": np.tile(np.arange(questions), seeds)}
    found = by_name(components(levels, np.full(24, n), y.sum(2).ravel(), (y**2).sum(2).ravel()))
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].variance == pytest.approx(value, rel=1e-9)


def test_unbalanced_estimates_are_unbiased() -> None:
    rng = np.random.default_rng(6)
    n = rng.integers(1, 30, 15)
    question = np.repeat(np.arange(15), n)
    found = []
    for _ in range(3000):
        y = 5 * rng.standard_normal(15)[question] + 10 * rng.standard_normal(len(question))
        sums = np.bincount(question, y), np.bincount(question, y**2)
        found.append(components({"question": np.arange(15)}, n, *sums))
    # Cutting at 0 lifts the mean a little; it is cut in few of the draws here.
    assert np.mean([f[0].variance for f in found]) == pytest.approx(25, rel=0.03)
    assert np.mean([f[1].variance for f in found]) == pytest.approx(100, rel=0.01)


def test_a_negative_estimate_is_cut_and_said() -> None:
    found = by_name(components({"question": np.arange(3)}, np.full(3, 10), np.full(3, 5), np.full(3, 5)))
    assert (found["question"].variance, found["question"].cut) == (0.0, True)
    assert (found["answer"].share, found["answer"].cut) == (1.0, False)


def test_a_single_seed_and_repeated_factors_are_left_out() -> None:
    levels = {"seed": np.zeros(5), "question": np.arange(5), "theme": np.arange(5)}
    found = components(levels, np.full(5, 4), np.arange(5), np.arange(5))
    assert [component.name for component in found] == ["question", "answer"]


def test_the_order_of_rows_changes_nothing() -> None:
    rng = np.random.default_rng(8)
    levels = {"seed": np.repeat([0, 1, 2], 5), "question": np.tile(np.arange(5), 3)}
    n = rng.integers(2, 20, 15)
    hits = rng.binomial(n, 0.3)
    order = rng.permutation(15)
    first = components(levels, n, hits, hits)
    second = components({k: v[order] for k, v in levels.items()}, n[order], hits[order], hits[order])
    np.testing.assert_allclose([c.variance for c in first], [c.variance for c in second], atol=1e-12)


@pytest.mark.slow
def test_judges_that_differ_by_sampling_alone_have_no_variance_on_average() -> None:
    rng = np.random.default_rng(9)
    shifted = 0.03 * rng.standard_normal((20_000, 3)) + 0.02 * rng.standard_normal((20_000, 3))
    noise = np.full((3, 3), 2 * 0.02**2)
    assert np.mean([judge_variance(row, noise) for row in shifted]) == pytest.approx(0.03**2, rel=0.05)


def test_judges_join_the_budget_of_one_of_them() -> None:
    """Twelve judges each raise every question's rate by their own shift: its variance, and the shares anew."""
    rng = np.random.default_rng(10)
    n_JQ = np.full((12, 40), 200)
    rate_JQ = 0.3 + 0.1 * rng.standard_normal((1, 40)) + 0.05 * rng.standard_normal((12, 1))
    hits_JQ = rng.binomial(n_JQ, np.clip(rate_JQ, 0, 1))
    mine = components({"question": np.arange(40)}, n_JQ[0], hits_JQ[0], hits_JQ[0])
    found = with_judges(mine, hits_JQ, n_JQ)
    judge = found[-1]
    assert (judge.name, judge.levels, judge.cut) == ("judge", 12, False)
    assert judge.variance == judge.contribution == pytest.approx((hits_JQ.sum(1) / 8000).var(ddof=1), rel=0.05)
    assert sum(part.share for part in found) == pytest.approx(1)
    assert [part.variance for part in found[:-1]] == [part.variance for part in mine]
    assert judge.share == pytest.approx(judge.variance / sum(part.contribution for part in found))


def test_judges_that_agree_add_nothing() -> None:
    hits_JQ = np.tile(np.arange(8), (2, 1))
    (*_, judge) = with_judges([], hits_JQ, np.full((2, 8), 10))
    assert (judge.variance, judge.share, judge.cut) == (0.0, 0.0, False)
