"""How often a transfer matrix in which nothing differs has a star: `python benchmarks/transfer_error.py`.

Eleven cells, their benign twins and the general questions all have the same rate; questions differ with intraclass
correlation 0.10, and all cells are asked the same ones. Printed is the share of simulated studies with any star
(familywise error, nominally 5 %) off the diagonal (110 squares) and in the column of all other subjects (11 rows), each
against the row's general rate and against the twin. Seeded; about a minute.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spillover.stats import clustered as stats

CELLS, RHO, LEVEL = 11, 0.10, 0.05
GENERAL = (24, 3)  # questions, answers to each
STUDIES, BLOCK = 1000, 50
Hits = NDArray[np.int64]


def hits(rng: np.random.Generator, rate: float, n: int, *shape: int) -> Hits:
    """Misaligned answers by study, cell and question; a question's chance is the same for all cells."""
    size = (1 - RHO) / RHO
    chance = rng.beta(rate * size, (1 - rate) * size, size=(shape[0], 1, *shape[2:]))
    return rng.binomial(n, np.broadcast_to(chance, shape))


def rates(hits_GQ: Hits, n: int) -> stats.Rates:
    return stats.clustered_rates(hits_GQ, np.full(hits_GQ.shape, n))


def stars(p_SF: NDArray[Any]) -> float:
    """Share of studies in which Holm's first step rejects."""
    return float((p_SF.min(1) * p_SF.shape[1] <= LEVEL).mean())


def errors(rng: np.random.Generator, rate: float, questions: int, n: int, studies: int) -> list[float]:
    """Off the diagonal against the general rate and the twin, then the same of all other subjects together."""
    general = hits(rng, rate, GENERAL[1], studies, CELLS, GENERAL[0])
    asked = np.stack([hits(rng, rate, n, studies, 2 * CELLS, questions) for _ in range(CELLS)], axis=2)
    off = ~np.eye(CELLS, dtype=bool)
    cell, twin = (part[:, off].reshape(-1, questions) for part in (asked[:, :CELLS], asked[:, CELLS:]))
    wide_cell, wide_twin = (part.reshape(studies * CELLS, -1) for part in (cell, twin))
    row = rates(general.reshape(-1, GENERAL[0]), GENERAL[1])
    each = row.take(np.repeat(np.arange(studies * CELLS), CELLS - 1))
    found: list[float] = []
    for mine, control, against in ((cell, twin, each), (wide_cell, wide_twin, row)):
        own, other = rates(mine, n), rates(control, n)
        independent = stats.independent_rate_differences(own, against, 0.95).p_CC
        paired = stats.paired_rate_differences(own, other, 0.95, moderated=True).p_CC
        found += [stars(p.reshape(studies, -1)) for p in (independent, paired)]
    return found


def main() -> None:
    print(f"{STUDIES} studies; standard error of 5 %: {100 * (0.05 * 0.95 / STUDIES) ** 0.5:.1f} points")
    print("rate  questions x n   off: general  twin   others: general  twin   (familywise error, %)")
    rng = np.random.default_rng(0)
    for questions, n in ((8, 1), (12, 1), (20, 2)):
        for rate in (0.02, 0.1, 0.3, 0.5):
            parts = [errors(rng, rate, questions, n, BLOCK) for _ in range(STUDIES // BLOCK)]
            a, b, c, d = 100 * np.mean(parts, axis=0)
            print(f"{rate:4.2f}  {questions:9d} x {n}   {a:12.1f}  {b:4.1f}   {c:15.1f}  {d:4.1f}", flush=True)


if __name__ == "__main__":
    main()
