"""Three intervals of one ranking side by side: `python benchmarks/interval_comparison.py RUN`.

naive: Wilson's, as if answers were independent; clustered: rate +- t(Q - 1) times the question-clustered error; ours.
Then how many pairs each calls separable: naive by the two-sample z test and clustered by the paired t test, both after
Holm's correction; ours by Tukey's range.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from scipy import stats as scipy_stats

from spillover.config.study import RankConfig
from spillover.stats import clustered as stats
from spillover.stats.ranking import compare
from spillover.study.run import Run
from spillover.tables.counts import count_completions


def main() -> None:
    """Print the table and the counts of separable pairs."""
    run = Run.open(sys.argv[1])
    table = count_completions(run.completions(), run.judgments(), RankConfig())
    rates = table.rates(range(len(table.keys)))
    order = np.argsort(-rates.value_C, kind="stable")
    rates, cells = rates.take(order), [table.keys[g][0] for g in order.tolist()]
    p_C, n_C = rates.value_C, rates.n_C
    naive = stats.wilson(p_C, n_C, float(scipy_stats.norm.ppf(0.975)))
    plain = replace(rates, df_C=rates.df_C - stats.NU)  # without the weight of the prior
    clustered, ours = stats.mean_intervals(plain, 0.95), stats.rate_intervals(rates, 0.95)
    print("| model | rate | naive | clustered t | ours |\n|---|---|---|---|---|")
    for c, cell in enumerate(cells):
        shown = (f"{100 * low[c]:.1f} to {100 * high[c]:.1f}" for low, high in (naive, clustered, ours))
        print(f"| {cell.model}, {cell.domain.replace('_', ' ')} | {100 * p_C[c]:.1f} | {' | '.join(shown)} |")
    pooled_CC = (p_C[:, None] * n_C[:, None] + p_C * n_C) / (n_C[:, None] + n_C)
    error_CC = np.sqrt(pooled_CC * (1 - pooled_CC) * (1 / n_C[:, None] + 1 / n_C))
    z_CC = 2 * scipy_stats.norm.sf(np.abs(p_C[:, None] - p_C) / np.where(error_CC > 0, error_CC, 1))
    pair = np.triu_indices(len(cells), 1)
    found = {
        "naive": np.array(stats.holm(z_CC[pair])),
        "clustered t": np.array(stats.holm(stats.mean_differences(rates, 0.95).p_CC[pair])),
        "ours": compare(rates, 0.95)[1][pair],
    }
    for name, p_P in found.items():
        print(f"{name}: {int((p_P <= 0.05).sum())} of {len(p_P)} pairs separable")


if __name__ == "__main__":
    main()
