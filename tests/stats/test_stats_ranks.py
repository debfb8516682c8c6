"""Ranks, their simultaneous intervals and tie groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from spillover.stats import clustered as stats
from spillover.stats.design_effects import together
from spillover.stats.ranking import compare, familywise, probability_above, rank_rates
from spillover.stats.simulate import answers, related, shares

FULL = 50


def rates_of(hits_CQ: np.ndarray) -> stats.Rates:
    return stats.clustered_rates(hits_CQ, np.full(np.shape(hits_CQ), FULL))


def test_rates_far_apart_are_ordered_without_doubt() -> None:
    hits = np.array([[1, 0, 2, 1, 1, 0, 1, 2], [47, 48, 46, 49, 47, 48, 46, 47], [24, 27, 25, 22, 26, 25, 24, 27]])
    ranks = rank_rates(rates_of(hits), 0.95)
    assert ranks.rank_C.tolist() == ranks.low_C.tolist() == ranks.high_C.tolist() == [3, 1, 2]
    assert ranks.tie_group_C.tolist() == [3, 1, 2]


def test_equal_cells_share_rank_and_group_and_no_order_is_claimed() -> None:
    ranks = rank_rates(rates_of(np.tile([4, 9, 0, 20, 3, 1, 5, 2], (5, 1))), 0.95)
    assert ranks.rank_C.tolist() == [1] * 5
    assert ranks.low_C.tolist() == [1] * 5
    assert ranks.high_C.tolist() == [5] * 5
    assert ranks.tie_group_C.tolist() == [1] * 5


def test_one_cell_is_first() -> None:
    ranks = rank_rates(rates_of(np.array([[3, 4, 5]])), 0.95)
    assert [a.tolist() for a in (ranks.rank_C, ranks.low_C, ranks.high_C, ranks.tie_group_C)] == [[1]] * 4


def test_one_answer_a_question_ranks_too() -> None:
    hits = np.zeros((2, 80))
    hits[0, :60] = 1
    ranks = rank_rates(stats.clustered_rates(hits, np.ones((2, 80))), 0.95)
    assert ranks.high_C.tolist() == [1, 2]


def test_pairs_are_adjusted_by_the_range_of_all_cells() -> None:
    rates = rates_of(np.random.default_rng(3).integers(0, 20, (6, 8)))
    differences, adjusted = compare(rates, 0.95)
    moderated = together(rates, 6)
    for a, b in zip(*np.triu_indices(6, 1), strict=True):
        df = min(moderated.df_C[a], moderated.df_C[b])
        t = scipy_stats.t.isf(differences.p_CC[a, b] / 2, df)
        expected = scipy_stats.studentized_range.sf(t * np.sqrt(2), 6, df)
        assert adjusted[a, b] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(adjusted, adjusted.T)


@pytest.mark.slow
def test_equal_cells_are_seldom_called_separable() -> None:
    """Thirteen cells of one rate at eight questions: the extreme pair of 78 must not pass for a difference."""
    generator = np.random.default_rng(4)
    share = shares(0.2, 0.1, related(generator, (150, 13, 8)))
    found = [stats.clustered_rates(*answers(generator, study, FULL)) for study in share]
    wrong = [len(set(rank_rates(rates, 0.95).tie_group_C.tolist())) > 1 for rates in found]
    assert np.mean(wrong) <= 0.05


@settings(max_examples=30)
@given(arrays(np.int64, st.tuples(st.integers(2, 6), st.integers(2, 9)), elements=st.integers(0, FULL)))
def test_ranks_lie_in_their_intervals_and_groups_hold_nothing_separable(hits: np.ndarray) -> None:
    rates = rates_of(hits)
    ranks = rank_rates(rates, 0.95)
    assert ((ranks.low_C >= 1) & (ranks.low_C <= ranks.rank_C)).all()
    assert ((ranks.rank_C <= ranks.high_C) & (ranks.high_C <= len(hits))).all()
    adjusted = compare(rates, 0.95)[1]
    same = ranks.tie_group_C[:, None] == ranks.tie_group_C[None, :]
    assert (adjusted[same] > 0.05 - 1e-12).all()
    assert (np.diff(ranks.tie_group_C[np.argsort(ranks.rank_C, kind="stable")]) >= 0).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(4, 200), st.integers(2, 40))
def test_adjusted_p_values_lie_between_single_ones_and_bonferroni(p: list[float], df: float, cells: int) -> None:
    p_P = np.sort(p)
    adjusted = familywise(p_P, np.full(len(p), df), cells)
    assert (adjusted >= p_P).all()
    assert (adjusted <= np.minimum(1, p_P * cells * (cells - 1) / 2) + 1e-5).all()
    assert (np.diff(adjusted) >= -1e-12).all()


def test_two_cells_are_one_pair_and_nothing_is_adjusted() -> None:
    p_P = np.array([1e-4, 0.03, 0.5, 1.0])
    np.testing.assert_allclose(familywise(p_P, np.full(4, 11.0), 2), p_P, rtol=1e-4)


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
        ranks = rank_rates(rates_of(generator.binomial(FULL, share_CQ)), 0.95)
        together.append(((ranks.low_C <= true_C) & (true_C <= ranks.high_C)).all())
    assert np.mean(together) > 0.92
