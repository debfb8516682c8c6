"""Corrected prevalence: closed forms, and the truth found again on simulated judges."""

from __future__ import annotations

import numpy as np
import pytest

from spillover.analyses.agreement.correct import corrected


def population(rng: np.random.Generator, questions: int = 20, each: int = 60, sens: float = 0.6, spec: float = 0.95):
    """Truth that varies by question, and a judge with these sensitivity and specificity."""
    question_N = np.repeat(np.arange(questions), each)
    truth_N = rng.random(len(question_N)) < rng.beta(2, 8, questions)[question_N]
    judged_N = np.where(truth_N, rng.random(len(truth_N)) < sens, rng.random(len(truth_N)) > spec)
    return question_N, truth_N, judged_N


def test_all_labelled_is_the_truth() -> None:
    rng = np.random.default_rng(0)
    question_N, truth_N, judged_N = population(rng)
    n = len(truth_N)
    found = corrected(judged_N, question_N, np.arange(n), truth_N, np.ones(n), 0.95)
    assert found.raw.value == pytest.approx(judged_N.mean())
    assert found.ppi.value == pytest.approx(truth_N.mean())
    assert found.rogan_gladen.value == pytest.approx(truth_N.mean())
    assert found.sensitivity == pytest.approx(judged_N[truth_N].mean())
    assert found.specificity == pytest.approx(1 - judged_N[~truth_N].mean())


def test_closed_forms_on_a_part() -> None:
    rng = np.random.default_rng(1)
    question_N, truth_N, judged_N = population(rng)
    part = np.sort(rng.choice(len(truth_N), 150, replace=False))
    found = corrected(judged_N, question_N, part, truth_N[part], np.ones(150), 0.95)
    j, y = judged_N[part].astype(float), truth_N[part].astype(float)
    power = np.cov(y, j)[0, 1] / np.var(j, ddof=1)
    assert found.power == pytest.approx(min(1.0, max(0.0, power)))
    assert found.ppi.value == pytest.approx(found.power * judged_N.mean() + np.mean(y - found.power * j))
    sens, spec = j[y == 1].mean(), 1 - j[y == 0].mean()
    assert found.rogan_gladen.value == pytest.approx((judged_N.mean() + spec - 1) / (sens + spec - 1))


def test_a_useless_judge_is_left_out_and_nothing_labelled_is_nothing_known() -> None:
    rng = np.random.default_rng(2)
    question_N, truth_N, _ = population(rng)
    constant_N = np.zeros(len(truth_N), dtype=bool)
    part = np.arange(0, len(truth_N), 10)
    found = corrected(constant_N, question_N, part, truth_N[part], np.ones(len(part)), 0.95)
    assert found.power == 0
    assert found.ppi.value == pytest.approx(truth_N[part].mean())
    assert found.rogan_gladen.value is None
    empty = corrected(constant_N, question_N, part[:0], truth_N[:0], np.ones(0), 0.95)
    assert (empty.ppi.value, empty.rogan_gladen.value, empty.power) == (None, None, None)
    assert empty.raw.value == 0


@pytest.mark.slow
def test_intervals_cover_the_truth_when_labels_are_chosen_by_the_judges_verdict() -> None:
    """Half of the labels go to what the judge calls misaligned, which is a tenth of all: weights must undo that."""
    covered = dict.fromkeys(("ppi", "rogan_gladen"), 0)
    errors: list[float] = []
    truth = 0.2  # mean of the beta distribution of the questions' rates
    for seed in range(400):
        rng = np.random.default_rng(seed)
        question_N, truth_N, judged_N = population(rng)
        bands = [np.flatnonzero(judged_N), np.flatnonzero(~judged_N)]
        parts = [rng.choice(band, min(100, len(band)), replace=False) for band in bands]
        part = np.concatenate(parts)
        chance = np.concatenate([np.full(len(p), len(p) / len(band)) for p, band in zip(parts, bands, strict=True)])
        found = corrected(judged_N, question_N, part, truth_N[part], 1 / chance, 0.95)
        assert found.ppi.value is not None
        errors.append(found.ppi.value - truth_N.mean())
        for name in covered:
            figure = getattr(found, name)
            covered[name] += figure.low <= truth <= figure.high
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 20 + 1e-3
    assert 0.92 <= covered["ppi"] / 400 <= 0.99
    # Rogan-Gladen's interval takes the judge's rate and its errors for independent and is wide: at least nominal here.
    assert covered["rogan_gladen"] / 400 >= 0.94
