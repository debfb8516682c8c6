"""Split halves, permuted labels and random directions: against the long way, uniform p-values and the Beta law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import planted
from scipy import stats

from spillover.directions.certainty import (
    norm_p,
    p_value,
    permuted_labels,
    random_cosine,
    random_directions,
    random_halves,
    split_half,
    split_half_means,
)
from spillover.directions.methods import differences, mean_difference, principal
from spillover.directions.separation import auc_and_null, cross_scores, labellings


def test_halves_are_halves() -> None:
    for questions in (4, 7):
        first_SQ = random_halves(questions, 500, np.random.default_rng(0))
        assert (first_SQ.sum(1) == questions // 2).all()
        np.testing.assert_allclose(first_SQ.mean(0), (questions // 2) / questions, atol=0.08)


def test_inner_products_give_what_finding_the_directions_anew_gives() -> None:
    rng = np.random.default_rng(1)
    answers, _ = planted(rng, questions=9, each=5, layers=3, dimensions=7)
    first_SQ = random_halves(answers.questions, 20, rng)
    np.testing.assert_allclose(
        split_half_means(differences(answers), first_SQ),
        split_half(mean_difference, answers, first_SQ),
        atol=1e-10,
    )


def test_noise_has_none_and_a_planted_direction_has_much() -> None:
    for method in (mean_difference, principal):
        noise: list[float] = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            answers, _ = planted(rng, questions=30, layers=1, dimensions=50, shift=0.0)
            noise.append(float(split_half(method, answers, random_halves(answers.questions, 20, rng)).mean()))
        assert abs(np.mean(noise)) < 0.1
        signal, _ = planted(rng, questions=30, layers=1, dimensions=50, shift=5.0)
        assert split_half(method, signal, random_halves(signal.questions, 40, rng)).mean() > 0.8


def test_permuting_keeps_the_labels_of_every_question() -> None:
    rng = np.random.default_rng(0)
    answers, _ = planted(rng, questions=7, each=5, layers=1, dimensions=3)
    permuted_PN = permuted_labels(answers, 400, rng)
    for q in range(answers.questions):
        own = answers.question_N == q
        assert (permuted_PN[:, own].sum(1) == answers.misaligned_N[own].sum()).all()
    first = answers.question_N == 0
    np.testing.assert_allclose(permuted_PN[:, first].mean(0), answers.misaligned_N[first].mean(), atol=0.12)


def test_p_is_uniform_where_there_is_nothing_and_small_where_there_is() -> None:
    """300 studies without a direction: neither p differs from uniform (Kolmogorov-Smirnov); 20 with one: p < 0.02."""
    of_norm: list[float] = []
    of_auc: list[float] = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        answers, _ = planted(rng, questions=8, each=6, layers=1, dimensions=6, shift=0.0)
        permuted_PN = permuted_labels(answers, 99, rng)
        of_norm.append(float(norm_p(answers, permuted_PN)[0]))
        own = labellings(answers, np.arange(answers.questions), permuted_PN)
        acts_ND = answers.acts_NLD[:, 0]
        auc_P = auc_and_null(own, cross_scores(own, acts_ND, own, acts_ND))
        of_auc.append(float(p_value(auc_P[0], auc_P[1:])))
    assert stats.kstest(of_norm, "uniform").pvalue > 0.01
    # an AUC over few questions takes few values, and ties count against it
    assert np.mean(np.array(of_auc) <= 0.05) <= 0.08
    assert np.mean(np.array(of_auc) <= 0.5) == pytest.approx(0.5, abs=0.08)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        answers, _ = planted(rng, questions=8, each=6, layers=1, dimensions=6, shift=3.0)
        assert norm_p(answers, permuted_labels(answers, 99, rng))[0] < 0.02


def test_the_norms_are_those_of_the_permuted_mean_differences() -> None:
    rng = np.random.default_rng(1)
    answers, _ = planted(rng, questions=6, each=5, layers=2, dimensions=4, shift=1.0)
    permuted_PN = permuted_labels(answers, 50, rng)
    seen_L = np.linalg.norm(mean_difference(answers), axis=1)
    relabelled = [replace(answers, misaligned_N=labels_N) for labels_N in permuted_PN]
    null_PL = np.stack([np.linalg.norm(mean_difference(one), axis=1) for one in relabelled])
    np.testing.assert_allclose(norm_p(answers, permuted_PN), (1 + (null_PL >= seen_L).sum(0)) / 51)


def test_random_directions_are_of_length_1_and_their_cosines_follow_the_beta_law() -> None:
    vectors_RD = random_directions(20, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(vectors_RD, axis=1), 1)
    cosine_K = np.abs((vectors_RD[:2000] * vectors_RD[2000:]).sum(1))
    assert np.mean(cosine_K < random_cosine(20, 0.95)) == pytest.approx(0.95, abs=0.015)
