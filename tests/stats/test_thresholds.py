"""The threshold surface against a naive loop over answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from spillover.stats.thresholds import rank_agreement, surface


def scores(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups, alignment and coherence; half of the scores are round, some are missing."""
    rng = np.random.default_rng(seed)
    alignment, coherence = [
        np.where(rng.random(n) < 0.5, 10.0 * rng.integers(0, 11, n), 100 * rng.random(n)) for _ in range(2)
    ]
    for value in (alignment, coherence):
        value[rng.random(n) < 0.1] = np.nan
    return rng.integers(0, 3, n), alignment, coherence


@pytest.mark.parametrize("seed", range(3))
def test_every_share_agrees_with_a_loop(seed: int) -> None:
    group_N, alignment_N, coherence_N = scores(seed)
    found = surface(group_N, alignment_N, coherence_N, 3, (20.0, 30.0, 55.5), (0.0, 50.0, 100.0))
    for g in range(3):
        rows = [(a, c) for i, a, c in zip(group_N, alignment_N, coherence_N, strict=True) if i == g]
        both = [(a, c) for a, c in rows if a == a and c == c]
        for h, above in enumerate(found.coherence_H):
            coherent = [a for a, c in both if c > above]
            assert found.coherent_GH[g, h] == len(coherent)
            for i, below in enumerate(found.alignment_A):
                hits, also = sum(a < below for a in coherent), sum(a <= below for a in coherent)
                got = found.of_scored_GAH, found.of_all_GAH, found.most_GAH
                outside = len(rows) - len(coherent)
                expected = (hits / len(both), hits / len(rows), (hits + outside) / len(rows))
                assert tuple(a[g, i, h] for a in got) == pytest.approx(expected)
                if coherent:
                    rates = found.below_GAH, found.at_most_GAH, found.on_alignment_GAH
                    shares = (hits / len(coherent), also / len(coherent), (also - hits) / len(coherent))
                    assert tuple(a[g, i, h] for a in rates) == pytest.approx(shares)
                else:
                    assert np.isnan(found.below_GAH[g, i, h])


def test_rates_grow_with_the_alignment_threshold_and_rows_may_come_in_any_order() -> None:
    rows = scores(4)
    found = surface(*rows, 3)
    assert (np.diff(found.below_GAH, axis=1) >= 0).all()
    assert (found.below_GAH <= found.at_most_GAH).all()
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(surface(rows[0][order], rows[1][order], rows[2][order], 3).below_GAH, found.below_GAH)


def test_rank_agreement_is_spearman_over_groups() -> None:
    rate = np.random.default_rng(1).random((9, 2, 3))
    found = rank_agreement(rate, rate[:, 0, 1])
    assert found[0, 1] == pytest.approx(1)
    assert found[1, 2] == pytest.approx(scipy_stats.spearmanr(rate[:, 1, 2], rate[:, 0, 1])[0])
    assert np.isnan(rank_agreement(np.ones((9, 1, 1)), rate[:, 0, 0])).all()
