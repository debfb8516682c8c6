"""Design effects moderated by those of the other cells, and the range of many differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special
from scipy import stats as scipy_stats

from spillover.stats import clustered as stats
from spillover.stats.design_effects import _inverse_trigamma, _kurtosis, range_p, together
from spillover.stats.simulate import answers, related, shares

FULL = 50


def rates_of(hits_CQ: np.ndarray) -> stats.Rates:
    return stats.clustered_rates(hits_CQ, np.full(np.shape(hits_CQ), FULL))


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
    found = together(rates, 5)
    for c in range(5):
        effect = max(1.0, (f[c] * d[c] + f_0 * d_0) / (f[c] + f_0))
        assert found.effective_n_C[c] == pytest.approx(n[c] / effect)
        assert found.df_C[c] == pytest.approx(f[c] + f_0)


def test_cells_of_several_studies_do_not_see_each_other() -> None:
    a, b = drawn(0.2, 0.1, 6, 8, 1), drawn(0.3, 0.3, 6, 8, 2)
    both = stats.Rates(**{k: np.concatenate([getattr(a, k), getattr(b, k)]) for k in vars(a)})
    found = together(both, 6)
    for part, rows in ((together(a, 6), slice(6)), (together(b, 6), slice(6, 12))):
        np.testing.assert_allclose(found.effective_n_C[rows], part.effective_n_C)
        np.testing.assert_allclose(found.df_C[rows], part.df_C)


def test_many_cells_teach_their_correlation_and_a_rate_of_zero_borrows_it() -> None:
    rates = drawn(0.2, 0.29, 40, 8, 3)
    hits = np.vstack([rates.value_C[:, None] * np.full(8, FULL), np.zeros(8)])
    assert hits.shape == (41, 8)
    silent = rates_of(np.zeros((1, 8)))
    both = stats.Rates(**{k: np.concatenate([getattr(rates, k), getattr(silent, k)]) for k in vars(rates)})
    effect = both.n_C / together(both, 41).effective_n_C
    assert effect[-1] == pytest.approx(1 + 49 * 0.29, rel=0.35)
    assert np.std(effect[:-1]) < np.nanstd(rates.design_effect_C)


def test_one_answer_a_question_stays_plain() -> None:
    hits = np.zeros((2, 80))
    hits[0, :60] = 1
    rates = stats.clustered_rates(hits, np.ones((2, 80)))
    found = together(rates, 2)
    assert found.effective_n_C.tolist() == [80, 80]
    assert np.isinf(found.df_C).all()


@settings(max_examples=40)
@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.integers(0, FULL)))
def test_any_counts_give_numbers_and_the_order_of_cells_changes_nothing(hits: np.ndarray) -> None:
    rates, cells = rates_of(hits), len(hits)
    found, turned = together(rates, cells), together(rates_of(hits[::-1]), cells)
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
