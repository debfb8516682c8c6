"""What the prior of `spillover.stats.pooling` does to coverage: `python benchmarks/seed_prior.py [--studies 1000]`.

Nominal 95 % intervals of a rate over 2, 3 and 5 fine-tunes, 8 questions x 50 answers, at true correlations of a seed's
answers from 0 to 0.03, under several priors (correlation, weight in seeds); mean over the thirteen models, in percent.
"""

from __future__ import annotations

import argparse

import numpy as np
from simulated_studies import MODELS, Rng, answers, covers, related, shares

from spillover.stats import Floats, pooling

PRIORS = ((0.0, 3.0), (0.003, 3.0), (0.005, 3.0), (0.01, 3.0), (0.02, 3.0), (0.005, 2.0), (0.005, 1.0), (0.01, 1.0))
TRUE = (0.0, 0.005, 0.01, 0.03)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    names = " | ".join(f"{rho:g}, {weight:g}" for rho, weight in PRIORS)
    print(f"| seeds | true correlation | {names} |\n|---|---|{'---|' * len(PRIORS)}")
    for seeds in (2, 3, 5):
        for true in TRUE:
            rng = np.random.default_rng([seeds, int(true * 1e4)])
            drawn = [(p, *_study(rng, (studies, seeds, 8), p, rho, true)) for p, rho in MODELS]
            found: list[float] = []
            for pooling.RHO_SEED, pooling.NU_SEED in PRIORS:
                intervals = [(pooling.seed_rates(x, n, 0.95), p) for p, x, n in drawn]
                found.append(float(np.mean([covers(s.low_C, s.high_C, p) for s, p in intervals])))
            print(f"| {seeds} | {true:g} | {' | '.join(f'{100 * share:.1f}' for share in found)} |", flush=True)


def _study(
    rng: Rng, shape: tuple[int, int, int], rate: float, correlation: float, of_seed: float
) -> tuple[Floats, Floats]:
    """Hits and coherent answers of studies x seeds x questions."""
    part = min(0.5, of_seed / correlation)
    normal = np.sqrt(1 - part) * related(rng, shape, 0.9) + np.sqrt(part) * rng.standard_normal((*shape[:2], 1))
    hits, n = answers(rng, shares(rate, correlation, normal), 50)
    return hits.astype(float), n.astype(float)


if __name__ == "__main__":
    main()
