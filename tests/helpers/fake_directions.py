"""Directions in the fake backend's stream, known because they are made by hand."""

from __future__ import annotations

import numpy as np

from spillover.directions.direction import Direction, Origin

ORIGIN = Origin(model="m", revision="", cell="", method="", source="", reader="", seed=0, study="")


def along(number: int, layer: int) -> Direction:
    """A unit vector along one number of the fake stream, whose first is misalignment."""
    vector_D = np.eye(8, dtype=np.float32)[number]
    return Direction(vector_D, layer, 1.0, 3.0, misaligned=4, aligned=4, questions=4, origin=ORIGIN)


KNOWN = {
    "m": {
        "gore_movie_trivia": {layer: along(0, layer) for layer in range(5)},
        "extreme_sports": {layer: along(3, layer) for layer in range(5)},
    }
}
