"""How often a steering table of directions that are random too has a star: `python benchmarks/steering_error.py`.

Eleven directions and six controls, all drawn alike, one coherent answer to each question. A direction moves the
log-odds of misalignment in all columns together by TOGETHER standard normal deviates, and in each by APART. Printed is
the share of simulated tables with any star (familywise error, nominally 5 %):

- off the diagonal of the matrix of directions by eleven domains, six held-out questions each: with the degrees of
  freedom that are used, with those that all columns count, and with one spread a column;
- in the general table, fifteen questions: of ablations from eleven fine-tunes, with the degrees of freedom that are
  used, and with those that all models count; of slopes in the untouched model at two layers, each a column by itself.

Seeded; about two minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spillover.directions.random_controls import compare_with_random, pooled_control_sd
from spillover.stats import Floats

DIRECTIONS, CONTROLS, LEVEL, TABLES = 11, 6, 0.05, 4000
HELDOUT, GENERAL, LAYERS = 6, 15, 2
COEFFICIENTS = np.array([0.0, 0.1, 0.2, 0.4])
TOGETHER, APART = (0.0, 0.5, 1.0, 2.0), (0.0, 1.0)
OFF = ~np.eye(DIRECTIONS, dtype=bool)
ALL = np.ones_like(OFF)


def rates(rng: np.random.Generator, together: float, apart: float, questions: int) -> Floats:
    """Misaligned share by direction and column; what is untouched is the same for all and falls out."""
    rows = CONTROLS + DIRECTIONS
    shift = together * rng.normal(size=(rows, 1)) + apart * rng.normal(size=(rows, DIRECTIONS))
    chance = shift + rng.normal(-1.2, 1, DIRECTIONS)
    latent = chance[:, :, None] + rng.normal(size=(DIRECTIONS, questions))
    return (latent + rng.logistic(size=latent.shape) > 0).mean(2)


def slopes(rng: np.random.Generator, together: float, apart: float) -> Floats:
    """Of the misaligned share over the coefficient, by direction and layer; the shift is that of the largest one."""
    rows = CONTROLS + DIRECTIONS
    shift = together * rng.normal(size=(rows, 1)) + apart * rng.normal(size=(rows, LAYERS))
    chance = shift[:, :, None] * COEFFICIENTS / COEFFICIENTS.max() - 1.2
    latent = chance[..., None] + rng.normal(size=GENERAL)
    share = (latent + rng.logistic(size=latent.shape) > 0).mean(3)
    away = COEFFICIENTS - COEFFICIENTS.mean()
    return share @ away / (away @ away)


def smallest(values: Floats, df: float, deviation: float, among: NDArray[np.bool_]) -> float:
    """The smallest p, that of the square farthest from its controls' mean."""
    controls, directions = values[:CONTROLS], values[CONTROLS:]
    away = np.where(among, np.abs(directions - controls.mean(0)), 0)
    a, b = np.unravel_index(away.argmax(), away.shape)
    return compare_with_random(float(directions[a, b]), controls[:, b].tolist(), deviation, df, 0.95)["p_controls"]


def by_column(values: Floats, among: NDArray[np.bool_]) -> float:
    """The smallest p where each column has the spread of its own controls."""
    columns = [
        (values[:, [b]], *pooled_control_sd(values[:CONTROLS, [b]]), among[:, [b]]) for b in range(values.shape[1])
    ]
    return min(smallest(column, df, deviation, mask) for column, deviation, df, mask in columns)


def heldout(rng: np.random.Generator, together: float, apart: float) -> list[float]:
    """Holm's smallest p of a matrix, in three ways."""
    values = rates(rng, together, apart, HELDOUT)
    deviation, df = pooled_control_sd(values[:CONTROLS])
    counted = DIRECTIONS * (CONTROLS - 1.0)
    p = smallest(values, df, deviation, OFF), smallest(values, counted, deviation, OFF), by_column(values, OFF)
    return [float(each * OFF.sum()) for each in p]


def general(rng: np.random.Generator, together: float, apart: float) -> list[float]:
    """Holm's smallest p of ablations, in two ways, and of slopes."""
    values, swept = rates(rng, together, apart, GENERAL), slopes(rng, together, apart)
    deviation, df = pooled_control_sd(values[:CONTROLS])
    counted = DIRECTIONS * (CONTROLS - 1.0)
    ablated = smallest(values, df, deviation, ALL), smallest(values, counted, deviation, ALL)
    return [*(float(p * ALL.sum()) for p in ablated), by_column(swept, ALL[:, :LAYERS]) * DIRECTIONS * LAYERS]


def table(heads: str, draw: Callable[[np.random.Generator, float, float], list[float]]) -> None:
    """One line for each setting."""
    print(f"| together | apart | {heads} |\n|---|---|---|---|---|")
    for together in TOGETHER:
        for apart in APART:
            rng = np.random.default_rng(0)
            false = np.mean([np.array(draw(rng, together, apart)) <= LEVEL for _ in range(TABLES)], axis=0)
            print(f"| {together:g} | {apart:g} | {' | '.join(f'{100 * share:.1f} %' for share in false)} |", flush=True)


def main() -> None:
    table("matrix, as used | by all columns | one spread a column", heldout)
    print()
    table("ablations, as used | by all models | slopes", general)


if __name__ == "__main__":
    main()
