"""Cosines with intervals that hold, corrections that undo noise, and a test of groups that is uniform without any."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spillover.directions.similarity import CosineEstimates, contrast_groups, estimate_cosines


def study(rng: np.random.Generator, u_CD: np.ndarray, questions: int, shared: bool) -> tuple[np.ndarray, ...]:
    """Differences of cells with true directions u, in noise; `shared`: every cell is asked the same questions."""
    cells, dimensions = u_CD.shape
    cell_R = np.repeat(np.arange(cells), questions)
    question_R = np.tile(np.arange(questions), cells) + (0 if shared else questions * cell_R)
    about_QD = rng.standard_normal((question_R.max() + 1, dimensions))
    d_RD = u_CD[cell_R] + 0.5 * about_QD[question_R] + rng.standard_normal((len(cell_R), dimensions))
    return d_RD, cell_R, question_R


def directions(dimensions: int, length: float) -> np.ndarray:
    """Three directions: two at cosine 0.8, and one across both."""
    u_CD = np.zeros((3, dimensions))
    u_CD[0, 0], u_CD[1, :2], u_CD[2, 2] = length, (0.8 * length, 0.6 * length), length
    return u_CD


def test_cosines_are_those_of_the_means() -> None:
    rng = np.random.default_rng(0)
    d_RD, cell_R, question_R = study(rng, directions(10, 2.0), 6, shared=True)
    found = estimate_cosines(d_RD, cell_R, question_R, 0.95, 200, rng)
    means_CD = np.stack([d_RD[cell_R == c].mean(0) for c in range(3)])
    expected_CC = means_CD @ means_CD.T / np.outer(np.linalg.norm(means_CD, axis=1), np.linalg.norm(means_CD, axis=1))
    np.testing.assert_allclose(found.cosine_CC, expected_CC)
    off = ~np.eye(3, dtype=bool)
    assert (found.low_CC[off] < found.cosine_CC[off]).all()
    assert (found.cosine_CC[off] < found.high_CC[off]).all()
    np.testing.assert_allclose(np.diag(found.low_CC), 1)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_the_corrected_cosine_undoes_the_noise(shared: bool) -> None:
    """True cosine 0.8 and 0, 20 questions in 100 dimensions: the plain ones are far off, the corrected ones are not."""
    plain, corrected = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        found = estimate_cosines(*study(rng, directions(100, 2.0), 20, shared), 0.95, 2, rng)
        plain.append(found.cosine_CC[0, 1:])
        corrected.append(found.corrected_CC[0, 1:])
    assert abs(np.mean(plain, axis=0)[0] - 0.8) > 0.2
    np.testing.assert_allclose(np.nanmedian(corrected, axis=0), [0.8, 0.0], atol=0.08)


def test_a_direction_of_noise_has_no_corrected_cosine_about_half_the_time() -> None:
    missing = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = estimate_cosines(*study(rng, np.zeros((2, 50)), 10, False), 0.95, 2, rng)
        missing.append(np.isnan(found.corrected_CC[0, 0]))
    assert 0.3 < np.mean(missing) < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_the_interval_holds_the_cosine_of_so_many_questions(shared: bool) -> None:
    """Nominal 95 %, 15 questions: at least 90 % hold the mean of the plain cosine over studies."""
    found: list[CosineEstimates] = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        found.append(estimate_cosines(*study(rng, directions(60, 2.0), 15, shared), 0.95, 150, rng))
    for pair in ((0, 1), (0, 2)):
        truth = np.mean([f.cosine_CC[pair] for f in found])
        held = np.mean([f.low_CC[pair] <= truth <= f.high_CC[pair] for f in found])
        assert held >= 0.9, (pair, held)


def test_groups_that_are_alike_are_found_and_labels_without_meaning_are_not() -> None:
    rng = np.random.default_rng(0)
    group_C = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    cosine_CC = np.where(group_C[:, None] == group_C, 0.6, 0.1) + 0.02 * rng.standard_normal((8, 8))
    cosine_CC = (cosine_CC + cosine_CC.T) / 2
    found = contrast_groups(cosine_CC, group_C, 2000, rng)
    assert found is not None
    assert (found.within, found.between) == (pytest.approx(0.6, abs=0.03), pytest.approx(0.1, abs=0.03))
    assert found.p < 0.01
    assert found.low < found.within - found.between < found.high
    p_values = []
    for _ in range(300):
        noise_CC = rng.standard_normal((8, 8))
        one = contrast_groups(noise_CC + noise_CC.T, group_C, 199, rng)
        assert one is not None
        p_values.append(one.p)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_what_cannot_be_grouped_is_not() -> None:
    rng = np.random.default_rng(0)
    assert contrast_groups(np.eye(4), np.zeros(4, int), 99, rng) is None
    assert contrast_groups(np.eye(4), np.arange(4), 99, rng) is None
    assert (
        contrast_groups(np.eye(3), np.array([0, 0, 1]), 99, rng) is None
    )  # without one of the two there is no pair within
