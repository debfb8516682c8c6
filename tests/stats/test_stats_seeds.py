"""Rates over several seeds: limits, laws and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spillover.stats import clustered as stats
from spillover.stats.seeds import seed_rates

SHARES = arrays(np.float64, (1, 3, 6), elements=st.floats(0, 1))


def test_seeds_that_answer_alike_add_little_and_seeds_that_differ_add_much() -> None:
    n = np.full((2, 3, 8), 40.0)
    alike = np.tile(np.array([2, 8, 4, 0, 6, 3, 9, 1]), (3, 1))
    apart = alike + np.array([[-0.0], [10.0], [20.0]])
    found = seed_rates(np.stack([alike, apart]), n, 0.95)
    assert found.value_C == pytest.approx([alike.sum() / 960, apart.sum() / 960])
    assert found.seed_deviation_C[0] == 0
    assert found.seed_deviation_C[1] == pytest.approx(np.std([0, 0.25, 0.5], ddof=1), rel=0.05)
    width = found.high_C - found.low_C
    assert width[1] > 2 * width[0]
    one = stats.clustered_rates(alike.sum(0), np.full(8, 120.0))
    low, high = stats.rate_intervals(one, 0.95)
    assert width[0] >= high[0] - low[0]


@given(SHARES)
def test_the_interval_holds_the_rate_and_order_changes_nothing(share: np.ndarray) -> None:
    n = np.full(share.shape, 20.0)
    hits = np.floor(share * 20)
    found, turned = seed_rates(hits, n, 0.95), seed_rates(hits[:, ::-1, ::-1], n, 0.95)
    assert 0 <= found.low_C[0] <= found.value_C[0] <= found.high_C[0] <= 1
    assert (turned.low_C[0], turned.high_C[0]) == pytest.approx((found.low_C[0], found.high_C[0]), abs=1e-9)


def test_no_hits_have_an_interval_too() -> None:
    found = seed_rates(np.zeros((1, 2, 8)), np.full((1, 2, 8), 50.0), 0.95)
    assert found.low_C[0] == 0
    assert 0.02 < found.high_C[0] < 0.15
