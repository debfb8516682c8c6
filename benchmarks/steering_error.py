"""How often a steering matrix of directions that are random too has a star: `python benchmarks/steering_error.py`.

Eleven directions and six controls, all drawn alike, on six questions of each of eleven domains, one coherent answer
each. A direction moves the log-odds of misalignment in all domains together by TOGETHER standard normal deviates, and
in each by APART. Printed is the share of simulated matrices with any star off the diagonal (familywise error, nominally
5 %): with the degrees of freedom that are used, with those that all columns count, and with one spread a column.
Seeded; about a minute.
"""

from __future__ import annotations

import numpy as np

from spillover.stats import Floats
from spillover.steered import beside
from spillover.steered_heldout import spread

DIRECTIONS, CONTROLS, QUESTIONS, LEVEL, MATRICES = 11, 6, 6, 0.05, 4000
TOGETHER, APART = (0.0, 0.5, 1.0, 2.0), (0.0, 1.0)


def rates(rng: np.random.Generator, together: float, apart: float) -> Floats:
    """Misaligned share by direction and domain; what is untouched is the same for all and falls out."""
    rows = CONTROLS + DIRECTIONS
    shift = together * rng.normal(size=(rows, 1)) + apart * rng.normal(size=(rows, DIRECTIONS))
    chance = shift + rng.normal(-1.2, 1, DIRECTIONS)
    latent = chance[:, :, None] + rng.normal(size=(DIRECTIONS, QUESTIONS))
    return (latent + rng.logistic(size=latent.shape) > 0).mean(2)


def smallest(values: Floats, df: float, deviation: float) -> float:
    """The smallest p off the diagonal, that of the square farthest from its controls' mean."""
    controls, directions = values[:CONTROLS], values[CONTROLS:]
    away = np.abs(directions - controls.mean(0))
    np.fill_diagonal(away, 0)
    a, b = np.unravel_index(away.argmax(), away.shape)
    return beside(float(directions[a, b]), controls[:, b].tolist(), deviation, df, 0.95)["p_controls"]


def smallest_by_column(values: Floats) -> float:
    """The smallest p off the diagonal where each column has the spread of its own controls."""
    controls, directions = values[:CONTROLS], values[CONTROLS:]
    away = np.abs(directions - controls.mean(0))
    np.fill_diagonal(away, 0)
    columns = range(DIRECTIONS)
    farthest = [float(directions[away[:, b].argmax(), b]) for b in columns]
    own = [(controls[:, b].tolist(), *spread(controls[:, [b]])) for b in columns]
    return min(beside(value, *each, 0.95)["p_controls"] for value, each in zip(farthest, own, strict=True))


def main() -> None:
    print("| together | apart | as used | by all columns | one spread a column |\n|---|---|---|---|---|")
    family = DIRECTIONS * (DIRECTIONS - 1)
    for together in TOGETHER:
        for apart in APART:
            rng, false = np.random.default_rng(0), np.zeros(3)
            for _ in range(MATRICES):
                values = rates(rng, together, apart)
                deviation, df = spread(values[:CONTROLS])
                counted = DIRECTIONS * (CONTROLS - 1.0)
                p = [smallest(values, df, deviation), smallest(values, counted, deviation), smallest_by_column(values)]
                false += np.array(p) * family <= LEVEL
            said = " | ".join(f"{100 * share:.1f} %" for share in false / MATRICES)
            print(f"| {together:g} | {apart:g} | {said} |")


if __name__ == "__main__":
    main()
