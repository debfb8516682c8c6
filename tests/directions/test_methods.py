"""Every method finds a planted direction, is what its formula says, and cares for nothing but labels in questions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from planted import planted
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression

from spillover.directions import METHODS
from spillover.directions.certainty import cosines
from spillover.directions.methods import (
    C,
    differences,
    logistic,
    mean_difference,
    paired,
    principal,
    tuned_minus_base,
    weights,
)


@pytest.mark.parametrize("name", METHODS.table)
def test_a_planted_direction_is_found(name: str) -> None:
    """360 answers to 60 questions, the classes 4 deviations apart: cosine above 0.95 at each of 5 seeds."""
    for seed in range(5):
        answers, u_LD = planted(np.random.default_rng(seed))
        v_LD = METHODS.load(name)(answers)
        assert cosines(v_LD, u_LD).min() > 0.95
        np.testing.assert_allclose(np.linalg.norm(v_LD, axis=1), 4.0, rtol=0.15)


def test_what_fine_tuning_added_is_found_without_labels() -> None:
    rng = np.random.default_rng(0)
    base_NLD = rng.standard_normal((60, 2, 48))
    u_LD = rng.standard_normal((2, 48))
    tuned_NLD = base_NLD + u_LD + 0.5 * rng.standard_normal(base_NLD.shape)
    assert cosines(tuned_minus_base(tuned_NLD, base_NLD, np.arange(60) // 3), u_LD).min() > 0.95


def naive_mean_difference(acts_NLD: np.ndarray, misaligned_N: np.ndarray, question_N: np.ndarray) -> np.ndarray:
    found = []
    for q in sorted(set(question_N.tolist())):
        bad = [x for x, m, k in zip(acts_NLD, misaligned_N, question_N, strict=True) if k == q and m]
        good = [x for x, m, k in zip(acts_NLD, misaligned_N, question_N, strict=True) if k == q and not m]
        if bad and good:
            found.append(sum(bad) / len(bad) - sum(good) / len(good))
    return sum(found) / len(found)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_mean_difference_is_that_of_a_loop(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 30))
    floats = st.floats(-100, 100, width=32)
    acts_NLD = data.draw(hnp.arrays(np.float64, (n, 2, 3), elements=floats))
    misaligned_N = data.draw(hnp.arrays(bool, n))
    question_N = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 5)))
    answers = paired(acts_NLD, misaligned_N, question_N)
    both = set(question_N[misaligned_N].tolist()) & set(question_N[~misaligned_N].tolist())
    assert answers.asked_Q.tolist() == sorted(both)
    assert answers.left_out == n - sum(question in both for question in question_N.tolist())
    assert (answers.misaligned + answers.aligned, answers.questions) == (n - answers.left_out, len(both))
    if both:
        expected_LD = naive_mean_difference(acts_NLD, misaligned_N, question_N)
        np.testing.assert_allclose(mean_difference(answers), expected_LD, atol=1e-9)


@pytest.mark.slow
@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_what_a_question_is_about_does_not_matter(seed: int) -> None:
    """A shift of all answers to a question moves no method's direction; neither does the order of the answers."""
    rng = np.random.default_rng(seed)
    answers, _ = planted(rng, questions=8, each=4, layers=1, dimensions=5)
    order_N = rng.permutation(len(answers.question_N))
    moved_NLD = answers.acts_NLD + 10 * rng.standard_normal((8, 1, 5))[answers.question_N]
    moved = paired(moved_NLD[order_N], answers.misaligned_N[order_N], answers.question_N[order_N])
    for name in METHODS.table:
        np.testing.assert_allclose(METHODS.load(name)(moved), METHODS.load(name)(answers), rtol=2e-3, atol=2e-3)


def test_swapping_the_labels_turns_the_direction_round() -> None:
    answers, _ = planted(np.random.default_rng(3), layers=1)
    swapped = paired(answers.acts_NLD, ~answers.misaligned_N, answers.question_N)
    for name in METHODS.table:
        np.testing.assert_allclose(METHODS.load(name)(swapped), -METHODS.load(name)(answers), rtol=1e-3, atol=1e-3)


def test_the_principal_component_is_that_of_scikit_learn() -> None:
    answers, _ = planted(np.random.default_rng(1), questions=12, layers=1)
    d_QD = differences(answers)[:, 0]
    u_D = TruncatedSVD(1, algorithm="arpack").fit(d_QD).components_[0]
    u_D *= np.sign(u_D @ d_QD.mean(0))
    np.testing.assert_allclose(principal(answers)[0], u_D * (d_QD.mean(0) @ u_D), atol=1e-8)


def test_the_probe_is_scikit_learns_on_all_features() -> None:
    """The fit in the span of the rows is the fit in the whole space, with more dimensions than answers."""
    answers, _ = planted(np.random.default_rng(2), questions=10, each=4, layers=1, dimensions=90, shift=2.0)
    x_ND = answers.acts_NLD[:, 0]
    centred_ND = x_ND - np.stack([x_ND[answers.question_N == q].mean(0) for q in answers.question_N])
    deviation_D = np.concatenate(
        [centred_ND[m] - centred_ND[m].mean(0) for m in (answers.misaligned_N, ~answers.misaligned_N)]
    ).std(0)
    z_ND = centred_ND / deviation_D
    s_N = [
        len(x_ND) / (2 * answers.questions * ((answers.question_N == q) & (answers.misaligned_N == m)).sum())
        for q, m in zip(answers.question_N, answers.misaligned_N, strict=True)
    ]
    probe = LogisticRegression(C=C, max_iter=5000, tol=1e-8).fit(z_ND, answers.misaligned_N, sample_weight=s_N)
    assert sum(s_N) == pytest.approx(len(x_ND))
    assert cosines(logistic(answers), probe.coef_ / deviation_D)[0] == pytest.approx(1, abs=1e-5)


def test_weights_of_many_labellings_are_those_of_each() -> None:
    answers, _ = planted(np.random.default_rng(4), questions=5, each=4, layers=1)
    labels_PN = np.stack([answers.misaligned_N, ~answers.misaligned_N])
    both_PN = weights(labels_PN, answers.question_N)
    for labels_N, w_N in zip(labels_PN, both_PN, strict=True):
        np.testing.assert_array_equal(weights(labels_N, answers.question_N), w_N)
        assert w_N.sum() == pytest.approx(0)
        assert np.abs(w_N).sum() == pytest.approx(2)
    np.testing.assert_allclose(np.tensordot(both_PN[0], answers.acts_NLD, axes=1), mean_difference(answers), atol=1e-12)
