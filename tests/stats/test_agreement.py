"""Agreement against statsmodels, scipy, naive loops, and draws made row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from statsmodels.stats.inter_rater import cohens_kappa

from spillover.stats import agreement
from spillover.stats.agreement import Resampler


def pairs(n: int = 240, questions: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    question_N = np.sort(rng.integers(0, questions, n))
    first_N = np.clip(np.round(rng.normal(60, 30, n) / 5) * 5, 0, 100)
    second_N = np.clip(np.round(first_N + rng.normal(-5, 15, n)), 0, 100)
    return first_N, second_N, question_N


def resampler(questions: int = 6, draws: int = 40) -> Resampler:
    return Resampler.of(questions, 0.95, draws, np.random.default_rng(1))


def drawn(weights_Q: np.ndarray, question_N: np.ndarray) -> np.ndarray:
    """Rows of one draw, each as often as its question was taken."""
    return np.concatenate([np.flatnonzero(question_N == q).repeat(int(w)) for q, w in enumerate(weights_Q)])


def reference_kappa(first_N: np.ndarray, second_N: np.ndarray, size: int, weights: str | None = None) -> float:
    table = np.zeros((size, size))
    np.add.at(table, (first_N.astype(int), second_N.astype(int)), 1)
    return float(cohens_kappa(table, wt=weights, return_results=True).kappa)


@pytest.mark.parametrize("seed", range(4))
def test_kappas_are_those_of_statsmodels(seed: int) -> None:
    first_N, second_N, question_N = pairs(seed=seed)
    low = agreement.decision(first_N < 30, second_N < 30, question_N, resampler())
    assert low.kappa.value == pytest.approx(reference_kappa(first_N < 30, second_N < 30, 2), abs=1e-9)
    assert low.agree.value == pytest.approx(np.mean((first_N < 30) == (second_N < 30)), abs=1e-12)
    assert low.both == np.sum((first_N < 30) & (second_N < 30))
    assert low.first_only == np.sum((first_N < 30) & (second_N >= 30))
    assert low.second_only == np.sum((first_N >= 30) & (second_N < 30))
    assert low.n == low.both + low.first_only + low.second_only + low.neither
    scores = agreement.scores(first_N, second_N, question_N, resampler())
    expected = reference_kappa(first_N, second_N, 101, "quadratic")
    assert scores.weighted_kappa.value == pytest.approx(expected, abs=1e-9)
    assert scores.spearman.value == pytest.approx(spearmanr(first_N, second_N)[0], abs=1e-9)
    assert scores.bias.value == pytest.approx(np.mean(second_N - first_N), abs=1e-9)


def test_every_draw_is_the_figure_of_its_rows() -> None:
    first_N, second_N, question_N = pairs()
    draws = resampler(draws=15)
    found_B = agreement.spearman(first_N, second_N, question_N, draws.weights_BQ)
    counts_Q4 = np.stack([np.bincount(2 * (first_N < 30) + (second_N < 30), question_N == q, 4) for q in range(6)])
    kappa_B = agreement.kappa(draws.weights_BQ @ counts_Q4)[1]
    for weights_Q, spearman, kappa in zip(draws.weights_BQ, found_B, kappa_B, strict=True):
        rows = drawn(weights_Q, question_N)
        a, b = first_N[rows], second_N[rows]
        assert spearman == pytest.approx(spearmanr(a, b)[0], abs=1e-9)
        assert kappa == pytest.approx(reference_kappa(a < 30, b < 30, 2), abs=1e-9)


def test_auc_is_the_share_of_pairs_and_its_interval_that_of_the_draws() -> None:
    first_N, second_N, question_N = pairs(120)
    draws = resampler(draws=60)

    def naive(low: np.ndarray, score: np.ndarray) -> float:
        wins = [float(a < b) + 0.5 * float(a == b) for a in score[low] for b in score[~low]]
        return float(np.mean(wins))

    found = agreement.auc(first_N < 30, second_N, question_N, draws)
    assert found.value == pytest.approx(naive(first_N < 30, second_N), abs=1e-12)
    values = [found.value]
    for weights_Q in draws.weights_BQ[1:]:
        rows = drawn(weights_Q, question_N)
        values.append(naive(first_N[rows] < 30, second_N[rows]))
    expected = draws.estimate(np.array(values))
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


def test_what_cannot_be_told_is_none() -> None:
    one = Resampler.of(1, 0.95, 100, np.random.default_rng(0))
    first_N, second_N, _ = pairs(50)
    alone = agreement.scores(first_N, second_N, np.zeros(50, np.int64), one)
    assert alone.spearman.value is not None
    assert alone.spearman.low is None
    nothing = agreement.scores(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), one)
    assert (nothing.n, nothing.bias.value) == (0, None)
    same = agreement.decision(np.zeros(9, bool), np.zeros(9, bool), np.arange(9) % 3, resampler(3))
    assert same.agree.value == 1
    assert same.kappa.value is None
    assert agreement.auc(np.zeros(9, bool), np.arange(9.0), np.arange(9) % 3, resampler(3)).value is None


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=4, max_size=40))
def test_laws(rows: list[tuple[int, int]]) -> None:
    a, b = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    question_N = np.arange(len(a)) % 4
    there, back = (agreement.scores(x, y, question_N, resampler(4)) for x, y in ((a, b), (b, a)))
    assert there.weighted_kappa.value == pytest.approx(back.weighted_kappa.value)
    assert there.bias.value == pytest.approx(-(back.bias.value or 0.0))
    same = agreement.scores(a, a, question_N, resampler(4))
    assert same.bias.value == same.bias.low == same.bias.high == 0
    assert same.weighted_kappa.value is None or same.weighted_kappa.value == pytest.approx(1)
    for figure in (there.bias, there.weighted_kappa, there.spearman):
        if figure.value is not None and figure.low is not None:
            assert figure.low <= figure.value <= (figure.high or 0.0) + 1e-12
            assert figure.value <= 1 + 1e-9 or figure is there.bias
