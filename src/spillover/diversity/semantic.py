"""semantic: 1 - mean cosine over distinct pairs of unit-norm embeddings; 0 = all the same, about 1 = unrelated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def score(embeddings_ND: NDArray[np.floating]) -> float:
    """One minus the mean cosine of distinct pairs; NaN for fewer than two texts."""
    x_ND = np.asarray(embeddings_ND, dtype=np.float64)
    n = len(x_ND)
    if n < 2:
        return float("nan")
    # The sum over pairs is |s|^2 less the squared norms, s = sum of all.
    return float(1 - ((x_ND.sum(0) ** 2).sum() - (x_ND**2).sum()) / (n * (n - 1)))
