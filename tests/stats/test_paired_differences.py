"""Differences of two lists of cells, pair by pair, against the matrix of all pairs."""

from __future__ import annotations

import numpy as np
from simulated_studies import answers, related, shares

from spillover.stats import clustered as stats


def test_paired_differences_are_those_of_the_matrix() -> None:
    rng = np.random.default_rng(2)
    hits, n = answers(rng, shares(0.2, 0.1, related(rng, (1, 5, 8))[0]), 30)
    rates = stats.clustered_rates(hits, n)
    row, column = np.triu_indices(5, 1)
    for moderated in (False, True):
        matrix = stats.rate_differences(rates, 0.95, moderated=moderated)
        pairs = stats.paired_rate_differences(rates.take(row), rates.take(column), 0.95, moderated=moderated)
        for name in ("value_CC", "low_CC", "high_CC", "p_CC"):
            np.testing.assert_allclose(getattr(pairs, name), getattr(matrix, name)[row, column], atol=1e-12)
    means = stats.clustered_means(hits, n)
    matrix, pairs = stats.mean_differences(means, 0.9), stats.paired_mean_differences(means, means, 0.9)
    assert (pairs.p_CC == 1).all()
    one, other = stats.clustered_means(hits[row], n[row]), stats.clustered_means(hits[column], n[column])
    np.testing.assert_allclose(stats.paired_mean_differences(one, other, 0.9).p_CC, matrix.p_CC[row, column])
