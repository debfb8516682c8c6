"""Halves share no question; the short way by inner products is the long way; noise has no stability and signal has."""

from __future__ import annotations

import numpy as np
from planted import planted

from spillover.directions import mean_difference, principal
from spillover.directions.base import differences
from spillover.directions.stability import halves, split_half, split_half_means


def test_halves_are_halves() -> None:
    for questions in (4, 7):
        first_SQ = halves(questions, 500, np.random.default_rng(0))
        assert (first_SQ.sum(1) == questions // 2).all()
        np.testing.assert_allclose(first_SQ.mean(0), (questions // 2) / questions, atol=0.08)


def test_inner_products_give_what_finding_the_directions_anew_gives() -> None:
    rng = np.random.default_rng(1)
    answers, _ = planted(rng, questions=9, each=5, layers=3, dimensions=7)
    first_SQ = halves(answers.questions, 20, rng)
    np.testing.assert_allclose(
        split_half_means(differences(answers), first_SQ),
        split_half(mean_difference.find, answers, first_SQ),
        atol=1e-10,
    )


def test_noise_has_none_and_a_planted_direction_has_much() -> None:
    for method in (mean_difference.find, principal.find):
        noise: list[float] = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            answers, _ = planted(rng, questions=30, layers=1, dimensions=50, shift=0.0)
            noise.append(float(split_half(method, answers, halves(answers.questions, 20, rng)).mean()))
        assert abs(np.mean(noise)) < 0.1
        signal, _ = planted(rng, questions=30, layers=1, dimensions=50, shift=5.0)
        assert split_half(method, signal, halves(signal.questions, 40, rng)).mean() > 0.8
