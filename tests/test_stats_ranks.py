"""Ranks, their simultaneous intervals and tie groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from spillover import stats
from spillover.stats_ranks import familywise, probability_above, rank_rates

FULL = 50


def rates_of(hits_CQ: np.ndarray) -> stats.Rates:
    return stats.clustered_rates(hits_CQ, np.full(np.shape(hits_CQ), FULL))


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_rates_far_apart_are_ordered_without_doubt() -> None:
    hits = np.array([[1, 0, 2, 1, 1, 0, 1, 2], [47, 48, 46, 49, 47, 48, 46, 47], [24, 27, 25, 22, 26, 25, 24, 27]])
    ranks = rank_rates(rates_of(hits), 0.95, 2000, rng())
    assert ranks.rank_C.tolist() == ranks.low_C.tolist() == ranks.high_C.tolist() == [3, 1, 2]
    assert ranks.tie_group_C.tolist() == [3, 1, 2]


def test_equal_cells_share_rank_and_group_and_no_order_is_claimed() -> None:
    ranks = rank_rates(rates_of(np.tile([4, 9, 0, 20, 3, 1, 5, 2], (5, 1))), 0.95, 500, rng())
    assert ranks.rank_C.tolist() == [1] * 5
    assert ranks.low_C.tolist() == [1] * 5
    assert ranks.high_C.tolist() == [5] * 5
    assert ranks.tie_group_C.tolist() == [1] * 5


def test_one_cell_is_first() -> None:
    ranks = rank_rates(rates_of(np.array([[3, 4, 5]])), 0.95, 100, rng())
    assert [a.tolist() for a in (ranks.rank_C, ranks.low_C, ranks.high_C, ranks.tie_group_C)] == [[1]] * 4


def test_one_answer_a_question_ranks_too() -> None:
    hits = np.zeros((2, 80))
    hits[0, :60] = 1
    ranks = rank_rates(stats.clustered_rates(hits, np.ones((2, 80))), 0.95, 500, rng())
    assert ranks.high_C.tolist() == [1, 2]


def test_the_same_seed_gives_the_same_ranks() -> None:
    hits = rng().integers(0, 20, (6, 8))
    one, other = (rank_rates(rates_of(hits), 0.95, 300, rng()) for _ in range(2))
    assert one.low_C.tolist() == other.low_C.tolist()
    assert one.high_C.tolist() == other.high_C.tolist()


def test_two_cells_need_no_adjustment() -> None:
    rates = rates_of(np.array([[9, 20, 14, 30, 22, 8], [2, 9, 11, 12, 9, 4]]))
    differences = stats.rate_differences(rates, 0.95)
    adjusted = familywise(rates, differences, 40_000, rng())
    assert adjusted[0, 1] == pytest.approx(differences.p_CC[0, 1], abs=0.003)


def test_independent_cells_are_adjusted_as_by_the_studentised_range() -> None:
    """Cells on questions of their own with equal spread: the most significant pair is Tukey's test."""
    cells, each = 5, 12
    hits, n = np.zeros((cells, cells * each)), np.zeros((cells, cells * each))
    for c, rate in enumerate([10, 14, 12, 18, 11]):
        block = slice(c * each, (c + 1) * each)
        n[c, block] = FULL
        hits[c, block] = rate + np.tile([-8, 8], each // 2)
    rates = stats.clustered_rates(hits, n)
    differences = stats.rate_differences(rates, 0.95)
    t = scipy_stats.t.isf(differences.p_CC[0, 3] / 2, rates.df_C[0])
    tukey = scipy_stats.studentized_range.sf(t * np.sqrt(2), cells, rates.df_C[0])
    assert familywise(rates, differences, 40_000, rng())[0, 3] == pytest.approx(tukey, abs=0.01)


@settings(max_examples=30)
@given(arrays(np.int64, st.tuples(st.integers(2, 6), st.integers(2, 9)), elements=st.integers(0, FULL)))
def test_ranks_lie_in_their_intervals_and_groups_hold_nothing_separable(hits: np.ndarray) -> None:
    rates = rates_of(hits)
    ranks = rank_rates(rates, 0.95, 200, rng())
    assert ((ranks.low_C >= 1) & (ranks.low_C <= ranks.rank_C)).all()
    assert ((ranks.rank_C <= ranks.high_C) & (ranks.high_C <= len(hits))).all()
    adjusted = familywise(rates, stats.rate_differences(rates, 0.95), 200, rng())
    same = ranks.tie_group_C[:, None] == ranks.tie_group_C[None, :]
    assert (adjusted[same] > 0.05 - 1e-12).all()
    assert (np.diff(ranks.tie_group_C[np.argsort(ranks.rank_C, kind="stable")]) >= 0).all()


@settings(max_examples=30)
@given(arrays(np.int64, (4, 6), elements=st.integers(0, FULL)))
def test_adjusted_p_values_are_no_smaller_than_single_ones(hits: np.ndarray) -> None:
    rates = rates_of(hits)
    differences = stats.rate_differences(rates, 0.95)
    off_diagonal = ~np.eye(4, dtype=bool)
    error = 4 * np.sqrt(0.25 / 1000)
    assert (familywise(rates, differences, 1000, rng()) >= differences.p_CC - error)[off_diagonal].all()


def test_probability_above() -> None:
    differences = stats.rate_differences(rates_of(np.array([[9, 20, 14, 30], [2, 9, 11, 12], [2, 9, 11, 12]])), 0.95)
    above = probability_above(differences)
    assert above[0, 1] == pytest.approx(1 - differences.p_CC[0, 1] / 2)
    assert above[0, 1] + above[1, 0] == pytest.approx(1)
    assert above[1, 2] == 0.5


@pytest.mark.slow
def test_true_ranks_lie_in_their_intervals_together() -> None:
    generator = np.random.default_rng(5)
    rate_C = np.array([0.02, 0.05, 0.1, 0.2, 0.21, 0.35])
    true_C = 1 + (rate_C[None, :] > rate_C[:, None]).sum(1)
    together = []
    for _ in range(120):
        share_CQ = generator.beta(rate_C[:, None] * 8, (1 - rate_C)[:, None] * 8, (6, 10))
        ranks = rank_rates(rates_of(generator.binomial(FULL, share_CQ)), 0.95, 300, generator)
        together.append(((ranks.low_C <= true_C) & (true_C <= ranks.high_C)).all())
    assert np.mean(together) > 0.92
