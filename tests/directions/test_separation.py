"""AUC within questions is what loops and scikit-learn give; held-out scores leave the scored theme out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted
from sklearn.metrics import roc_auc_score

from spillover.directions.certainty import permuted_labels
from spillover.directions.methods import Answers, mean_difference, paired
from spillover.directions.separation import (
    answer_pairs,
    auc_and_null,
    auc_interval,
    cross_scores,
    familywise,
    held_out_scores,
    labellings,
)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_the_auc_is_the_mean_of_scikit_learns_over_questions(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    misaligned_N, question_N = rng.random(n) < 0.5, rng.integers(0, 5, n)
    answers = paired(rng.integers(0, 4, (n, 1, 1)), misaligned_N, question_N)  # ties are common
    if not answers.questions:
        return
    score_N = answers.acts_NLD[:, 0, 0]
    found = answer_pairs(answers)
    expected_Q = [
        roc_auc_score(answers.misaligned_N[own], score_N[own])
        for own in (answers.question_N == q for q in range(answers.questions))
    ]
    np.testing.assert_allclose(found.auc_by_question(score_N, answers.misaligned_N), expected_Q, atol=1e-12)
    assert found.auc(score_N, answers.misaligned_N) == pytest.approx(np.mean(expected_Q))
    assert found.auc(-score_N, answers.misaligned_N) == pytest.approx(1 - np.mean(expected_Q))


def test_questions_that_misalign_often_do_not_pass_for_separation() -> None:
    """A score that tells the questions apart and nothing else: the usual AUC is far from 0.5, this one is not."""
    question_N = np.repeat([0, 1], 10)
    misaligned_N = np.array([i < (8 if q else 2) for q in (0, 1) for i in range(10)])
    answers = paired(question_N[:, None, None], misaligned_N, question_N)
    score_N = answers.acts_NLD[:, 0, 0]
    assert roc_auc_score(misaligned_N, score_N) == pytest.approx(0.8)
    assert answer_pairs(answers).auc(score_N, answers.misaligned_N) == 0.5


def test_the_interval_covers_questions_like_these() -> None:
    """400 studies of 12 questions x 6 answers; questions differ in how well they separate. Nominal 95 %."""
    held, spreads = 0, np.random.default_rng(5).normal(1.0, 0.7, 200_000)
    truth = float(np.mean([0.5 * (1 + _erf(s / 2)) for s in spreads[:20_000]]))
    for seed in range(400):
        rng = np.random.default_rng(seed)
        question_N = np.repeat(np.arange(12), 6)
        misaligned_N = np.tile([True, True, False, False, False, False], 12)
        score_N = rng.standard_normal(72) + misaligned_N * rng.normal(1.0, 0.7, 12)[question_N]
        answers = paired(score_N[:, None, None], misaligned_N, question_N)
        low, high = auc_interval(answer_pairs(answers).auc_by_question(score_N, misaligned_N), 0.95)
        held += low <= truth <= high
    assert held / 400 >= 0.94


def _erf(x: float) -> float:
    from math import erf

    return erf(x)


def naive_scores(a: Answers, theme_a: np.ndarray, b: Answers, theme_b: np.ndarray) -> np.ndarray:
    found = []
    for x_D, q in zip(b.acts_NLD[:, 0], b.question_N, strict=True):
        kept_Q = theme_a != theme_b[q]
        found.append(x_D @ mean_difference(a.of_questions(kept_Q))[0] * kept_Q.sum() / len(kept_Q))
    return np.array(found)


def test_scores_are_those_of_directions_without_the_scored_theme() -> None:
    rng = np.random.default_rng(0)
    a, _ = planted(rng, questions=7, each=5, layers=1, dimensions=4)
    b, _ = planted(rng, questions=6, each=4, layers=1, dimensions=4)
    theme_a, theme_b = np.array([0, 0, 1, 2, 3, 4, 5])[: a.questions], np.array([1, 2, 9, 9, 10, 0])[: b.questions]
    permuted_PN = permuted_labels(a, 3, rng)
    one, two = labellings(a, theme_a, permuted_PN), labellings(b, theme_b, permuted_labels(b, 3, rng))
    a_ND, b_ND = a.acts_NLD[:, 0], b.acts_NLD[:, 0]
    found_PN = cross_scores(one, a_ND, two, b_ND)
    np.testing.assert_allclose(found_PN[0], naive_scores(a, theme_a, b, theme_b), atol=1e-10)
    relabelled = Answers(a.acts_NLD, permuted_PN[1], a.question_N, a.asked_Q)
    np.testing.assert_allclose(found_PN[2], naive_scores(relabelled, theme_a, b, theme_b), atol=1e-10)
    generic_N = held_out_scores(lambda kept_Q: mean_difference(a.of_questions(kept_Q))[0], theme_a, b_ND, two.theme_N)
    auc = answer_pairs(b).auc(found_PN[0], b.misaligned_N)
    assert answer_pairs(b).auc(generic_N, b.misaligned_N) == pytest.approx(float(auc))
    assert auc_and_null(two, found_PN)[0] == pytest.approx(float(auc))


def test_a_direction_that_has_seen_the_scored_answers_would_separate_noise() -> None:
    """In noise of many dimensions the direction's own answers lie along it; with their theme left out they do not."""
    seen, held_out = [], []
    for seed in range(20):
        answers, _ = planted(np.random.default_rng(seed), questions=10, each=4, layers=1, dimensions=200, shift=0.0)
        acts_ND = answers.acts_NLD[:, 0]
        own = labellings(answers, np.arange(answers.questions), np.zeros((0, len(acts_ND)), bool))
        seen.append(answer_pairs(answers).auc(acts_ND @ mean_difference(answers)[0], answers.misaligned_N))
        held_out.append(auc_and_null(own, cross_scores(own, acts_ND, own, acts_ND))[0])
    assert np.mean(seen) > 0.95
    assert np.mean(held_out) == pytest.approx(0.5, abs=0.05)


def test_familywise_p_allows_for_the_number_tried() -> None:
    """Of 400 families of 20 useless tables, about 5 % have one at p <= 0.05; singly tested 64 % would."""
    rng = np.random.default_rng(0)
    any_family = any_single = 0
    for _ in range(400):
        auc_PX = 0.5 + 0.1 * rng.standard_normal((100, 20)) * np.linspace(0.3, 1, 20)
        p_X = familywise(auc_PX[0], auc_PX[1:])
        any_family += (p_X <= 0.05).any()
        single_X = (1 + (np.abs(auc_PX[1:] - 0.5) >= np.abs(auc_PX[0] - 0.5)).sum(0)) / 100
        any_single += (single_X <= 0.05).any()
    assert any_family / 400 == pytest.approx(0.05, abs=0.035)
    assert any_single / 400 > 0.5
