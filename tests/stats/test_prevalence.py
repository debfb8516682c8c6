"""Corrected rates against a transcription of the published formulas, closed forms, and simulation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from spillover.stats import prevalence
from spillover.stats.prevalence import ppi_rates

Z = float(scipy_stats.norm.ppf(0.975))


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def rogan_gladen(rate: float, n: float, *labels: float) -> Interval:
    return Interval(*map(float, prevalence.rogan_gladen(rate, n, *labels)))


def ppi(
    judge_all_N: np.ndarray,
    question_all_N: np.ndarray,
    judge_labelled_M: np.ndarray,
    label_M: np.ndarray,
    question_labelled_M: np.ndarray,
    confidence: float,
    weight_M: np.ndarray | None = None,
) -> Interval:
    """The rate of one cell from single answers; questions are any names, weights 1 over the chance of a label."""
    names, place = np.unique(np.append(question_all_N, question_labelled_M), return_inverse=True)
    f_N, f_M, y_M = (np.asarray(x, dtype=np.float64) for x in (judge_all_N, judge_labelled_M, label_M))
    w_M = np.ones(len(y_M)) if weight_M is None else weight_M
    all_N, labelled_M = place[: len(f_N)], place[len(f_N) :]

    def by_question(values: np.ndarray, question: np.ndarray) -> np.ndarray:
        return np.bincount(question, values, minlength=len(names))[None]

    found = ppi_rates(
        hits_CQ=by_question(f_N, all_N),
        n_CQ=by_question(np.ones(len(f_N)), all_N),
        weight_CQ=by_question(w_M, labelled_M),
        judge_CQ=by_question(w_M * f_M, labelled_M),
        label_CQ=by_question(w_M * y_M, labelled_M),
        both_CQ=by_question(w_M * y_M * f_M, labelled_M),
        squares_C=np.array([(w_M**2).sum()]),
        confidence=confidence,
    )
    return Interval(float(found.value_C[0]), float(found.low_C[0]), float(found.high_C[0]))


def lang_reiczigel(x: int, n: int, tp: int, n_se: int, tn: int, n_sp: int) -> tuple[float, float]:
    """The interval step by step, as R's asht::prevSeSp has it, within [0, 1]."""
    se, sp, ap = (tp + 1) / (n_se + 2), (tn + 1) / (n_sp + 2), (x + Z**2 / 2) / (n + Z**2)
    p = (ap + sp - 1) / (se + sp - 1)
    shift = 2 * Z**2 * (p * se * (1 - se) / (n_se + 2) - (1 - p) * sp * (1 - sp) / (n_sp + 2))
    terms = (ap * (1 - ap) / (n + Z**2), p**2 * se * (1 - se) / (n_se + 2), (1 - p) ** 2 * sp * (1 - sp) / (n_sp + 2))
    half = Z * sum(terms) ** 0.5 / (se + sp - 1)
    return max(0.0, p + shift - half), min(1.0, p + shift + half)


@pytest.mark.parametrize("counts", [(60, 200, 50, 60, 48, 60), (9, 400, 18, 20, 75, 80), (150, 200, 9, 10, 30, 31)])
def test_rogan_gladen_agrees_with_the_published_steps(counts: tuple[int, ...]) -> None:
    x, n, tp, n_se, tn, n_sp = counts
    found = rogan_gladen(x / n, n, tp, n_se, tn, n_sp, 0.95)
    closed = (x / n + tn / n_sp - 1) / (tp / n_se + tn / n_sp - 1)
    assert found.value == pytest.approx(min(1.0, max(0.0, closed)), abs=1e-12)
    low, high = lang_reiczigel(*counts)
    assert (found.low, found.high) == pytest.approx((min(low, found.value), max(high, found.value)), abs=1e-12)


def test_a_perfect_judge_changes_nothing_and_one_no_better_than_chance_tells_nothing() -> None:
    perfect = rogan_gladen(0.3, 1000, 10**6, 10**6, 10**6, 10**6, 0.95)
    assert perfect.value == pytest.approx(0.3)
    assert (perfect.low, perfect.high) == pytest.approx((0.2724, 0.3292), abs=1e-3)
    useless = rogan_gladen(0.3, 1000, 40, 100, 60, 100, 0.95)
    assert np.isnan([useless.value, useless.low, useless.high]).all()


@given(*(st.floats(0, 1) for _ in range(3)), *(st.integers(1, 500) for _ in range(3)))
def test_the_interval_holds_the_rate(a: float, se: float, sp: float, n: int, n_se: int, n_sp: int) -> None:
    found = rogan_gladen(a, n, round(se * n_se), n_se, round(sp * n_sp), n_sp, 0.9)
    if not np.isnan(found.value):
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_larger_apparent_rate_gives_a_larger_rate() -> None:
    value, low, high = prevalence.rogan_gladen(np.linspace(0.2, 0.8, 30), 300, 40, 50, 80, 100, 0.95)
    assert (np.diff(value) > 0).all()
    assert min(np.diff(low).min(), np.diff(high).min()) >= 0


def labelled(seed: int, questions: int = 8, answers: int = 50, part: int = 15, flip: float = 0.1):
    """Judge and question of all answers, and judge, label and question of a random part of each question."""
    rng = np.random.default_rng(seed)
    question_N = np.repeat(np.arange(questions), answers)
    truth_N = rng.random(len(question_N)) < np.repeat(rng.beta(2, 6, questions), answers)
    judge_N = truth_N ^ (rng.random(len(question_N)) < flip)
    chosen = np.concatenate([q * answers + rng.permutation(answers)[:part] for q in range(questions)])
    return judge_N, question_N, judge_N[chosen], truth_N[chosen], question_N[chosen]


def test_ppi_is_the_published_estimate_with_the_tuned_weight() -> None:
    judge_N, question_N, judge_M, label_M, question_M = labelled(3)
    tuning = np.cov(label_M, judge_M, bias=True)[0, 1] / np.var(judge_M)
    expected = tuning * judge_N.mean() + np.mean(label_M - tuning * judge_M)
    found = ppi(judge_N, question_N, judge_M, label_M, question_M, 0.95)
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_ppi_without_a_usable_judge_is_the_labelled_mean() -> None:
    _, _, _, label_M, question_M = labelled(4)
    same = np.zeros(len(label_M))
    found = ppi(same, question_M, same, label_M, question_M, 0.95)
    assert found.value == pytest.approx(label_M.mean())
    assert found.low < found.value < found.high


def test_ppi_takes_inclusion_weights() -> None:
    judge_N, question_N, judge_M, label_M, question_M = labelled(5)
    weight_M = np.where(judge_M, 1.0, 3.0)
    found = ppi(judge_N, question_N, judge_M, label_M, question_M, 0.95, weight_M)
    judges_M, labels_M, names_M = (np.concatenate([x, *(x[~judge_M],) * 2]) for x in (judge_M, label_M, question_M))
    repeated = ppi(judge_N, question_N, judges_M, labels_M, names_M, 0.95)
    assert found.value == pytest.approx(repeated.value)
    scaled = ppi(judge_N, question_N, judge_M, label_M, question_M, 0.95, 7 * weight_M)
    assert (scaled.low, scaled.high) == pytest.approx((found.low, found.high))


def test_ppi_does_not_depend_on_the_order_or_the_names_of_questions() -> None:
    judge_N, question_N, judge_M, label_M, question_M = labelled(6)
    first = ppi(judge_N, question_N, judge_M, label_M, question_M, 0.95)
    all_order, part_order = np.random.default_rng(0).permutation(400), np.random.default_rng(1).permutation(120)
    names = np.array([f"q{9 - q}" for q in range(8)])
    second = ppi(
        judge_N[all_order],
        names[question_N[all_order]],
        judge_M[part_order],
        label_M[part_order],
        names[question_M[part_order]],
        0.95,
    )
    assert isinstance(second, Interval)
    assert (second.value, second.low, second.high) == pytest.approx((first.value, first.low, first.high), abs=1e-12)


def test_more_labels_narrow_the_interval_and_full_agreement_leaves_a_width() -> None:
    few, many = (ppi(*labelled(7, 24, 50, part, flip=0.0), 0.95) for part in (2, 40))
    assert 0 < many.high - many.low < few.high - few.low


def test_no_labels_give_no_rate() -> None:
    empty = np.zeros((1, 4))
    found = ppi_rates(np.ones((1, 4)), np.full((1, 4), 9.0), empty, empty, empty, empty, np.zeros(1), 0.95)
    assert np.isnan([found.value_C[0], found.low_C[0], found.high_C[0]]).all()
