"""Ranks with simultaneous intervals and tie groups, moderated design effects, and the range of many differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special
from scipy import stats as scipy_stats
from simulated_studies import answers, related, shares

from spillover.stats import clustered as stats
from spillover.stats.ranking import (
    _inverse_trigamma,
    _kurtosis,
    compare,
    familywise,
    moderate_design_effects,
    probability_above,
    range_p,
    rank_rates,
)

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
    moderated = moderate_design_effects(rates, 6)
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


def drawn(rate: float, correlation: float, cells: int, questions: int, seed: int) -> stats.Rates:
    rng = np.random.default_rng(seed)
    return stats.clustered_rates(*answers(rng, shares(rate, correlation, related(rng, (1, cells, questions))[0]), FULL))


def test_the_formula_in_a_loop() -> None:
    rates = drawn(0.2, 0.15, 5, 8, 0)
    r, n, d = rates.value_C, rates.n_C, rates.design_effect_C
    f, e = np.zeros(5), np.zeros(5)
    for c in range(5):
        mean = (r[c] * n[c] + n[c] / 16) / (n[c] * 9 / 8)
        k = scipy_stats.beta.stats(mean * 9, (1 - mean) * 9, moments="k")
        f[c] = 2 / (2 / 7 + max(k, 0) / 8)
        e[c] = np.log(d[c]) - special.digamma(f[c] / 2) + np.log(f[c] / 2)
    usual = np.log(rates.usual_effect_C.mean()) - special.digamma(2) + np.log(2)
    mean = (e.sum() + 2 * usual) / 7
    excess = [(e[c] - mean) ** 2 * 5 / 4 - special.polygamma(1, f[c] / 2) for c in range(5)]
    spread = (sum(excess) + 2 * special.polygamma(1, 2)) / 7
    f_0 = 2 * float(_inverse_trigamma(np.array([max(spread, 5e-3)]))[0])
    d_0 = np.exp(mean + special.digamma(f_0 / 2) - np.log(f_0 / 2))
    found = moderate_design_effects(rates, 5)
    for c in range(5):
        effect = max(1.0, (f[c] * d[c] + f_0 * d_0) / (f[c] + f_0))
        assert found.effective_n_C[c] == pytest.approx(n[c] / effect)
        assert found.df_C[c] == pytest.approx(f[c] + f_0)


def test_cells_of_several_studies_do_not_see_each_other() -> None:
    a, b = drawn(0.2, 0.1, 6, 8, 1), drawn(0.3, 0.3, 6, 8, 2)
    both = stats.Rates(**{k: np.concatenate([getattr(a, k), getattr(b, k)]) for k in vars(a)})
    found = moderate_design_effects(both, 6)
    for part, rows in ((moderate_design_effects(a, 6), slice(6)), (moderate_design_effects(b, 6), slice(6, 12))):
        np.testing.assert_allclose(found.effective_n_C[rows], part.effective_n_C)
        np.testing.assert_allclose(found.df_C[rows], part.df_C)


def test_many_cells_teach_their_correlation_and_a_rate_of_zero_borrows_it() -> None:
    rates = drawn(0.2, 0.29, 40, 8, 3)
    hits = np.vstack([rates.value_C[:, None] * np.full(8, FULL), np.zeros(8)])
    assert hits.shape == (41, 8)
    silent = rates_of(np.zeros((1, 8)))
    both = stats.Rates(**{k: np.concatenate([getattr(rates, k), getattr(silent, k)]) for k in vars(rates)})
    effect = both.n_C / moderate_design_effects(both, 41).effective_n_C
    assert effect[-1] == pytest.approx(1 + 49 * 0.29, rel=0.35)
    assert np.std(effect[:-1]) < np.nanstd(rates.design_effect_C)


def test_one_answer_a_question_stays_plain() -> None:
    hits = np.zeros((2, 80))
    hits[0, :60] = 1
    rates = stats.clustered_rates(hits, np.ones((2, 80)))
    found = moderate_design_effects(rates, 2)
    assert found.effective_n_C.tolist() == [80, 80]
    assert np.isinf(found.df_C).all()


@settings(max_examples=40)
@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.integers(0, FULL)))
def test_any_counts_give_numbers_and_the_order_of_cells_changes_nothing(hits: np.ndarray) -> None:
    rates, cells = rates_of(hits), len(hits)
    found, turned = moderate_design_effects(rates, cells), moderate_design_effects(rates_of(hits[::-1]), cells)
    for name in ("effective_n_C", "df_C"):
        assert np.isfinite(getattr(found, name)).all()
        np.testing.assert_allclose(getattr(found, name), getattr(turned, name)[::-1], rtol=1e-9)
    assert (found.effective_n_C <= rates.n_C).all()


def test_kurtosis_is_that_of_the_beta_distribution() -> None:
    for mean in (0.02, 0.3, 0.5):
        expected = float(scipy_stats.beta.stats(9 * mean, 9 * (1 - mean), moments="k"))
        assert _kurtosis(np.array(mean)) == pytest.approx(expected)


def test_the_inverse_of_trigamma() -> None:
    y = np.array([5e-3, 0.1, 1.0, 20.0])
    np.testing.assert_allclose(special.polygamma(1, _inverse_trigamma(y)), y, rtol=1e-12)


@pytest.mark.parametrize("cells", [2, 3, 13, 40])
def test_the_range_is_scipys(cells: int) -> None:
    t = np.array([0.3, 1.0, 2.5, 4.0])
    for df in (5.0, 17.3, 90.0):
        expected = scipy_stats.studentized_range.sf(t * np.sqrt(2), cells, df)
        np.testing.assert_allclose(range_p(t, np.full(4, df), cells), expected, atol=2e-6)
    assert range_p(np.array(2.5), np.array(np.inf), cells) == pytest.approx(
        scipy_stats.studentized_range.sf(2.5 * np.sqrt(2), cells, np.inf), abs=5e-5
    )
