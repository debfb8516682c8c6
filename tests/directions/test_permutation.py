"""Permuted labels stay in their questions, a p of nothing is uniform, and random directions are as their law says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import planted
from scipy import stats

from spillover.directions import mean_difference
from spillover.directions.crossing import aucs, scores, side
from spillover.directions.permutation import norm_p, p_value, permuted_labels, random_cosine, random_directions


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
        own = side(answers, np.arange(answers.questions), permuted_PN)
        acts_ND = answers.acts_NLD[:, 0]
        auc_P = aucs(own, scores(own, acts_ND, own, acts_ND))
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
    seen_L = np.linalg.norm(mean_difference.find(answers), axis=1)
    relabelled = [replace(answers, misaligned_N=labels_N) for labels_N in permuted_PN]
    null_PL = np.stack([np.linalg.norm(mean_difference.find(one), axis=1) for one in relabelled])
    np.testing.assert_allclose(norm_p(answers, permuted_PN), (1 + (null_PL >= seen_L).sum(0)) / 51)


def test_random_directions_are_of_length_1_and_their_cosines_follow_the_beta_law() -> None:
    vectors_RD = random_directions(20, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(vectors_RD, axis=1), 1)
    cosine_K = np.abs((vectors_RD[:2000] * vectors_RD[2000:]).sum(1))
    assert np.mean(cosine_K < random_cosine(20, 0.95)) == pytest.approx(0.95, abs=0.015)
