"""vendi_shifted: the Vendi score of arXiv 2602.00298, with the kernel (cos + 1) / 2 on question and answer pooled.

The shift adds the constant 1/2 to every pair, so that one eigenvalue holds at least half of the trace and the score
stays small. (cos + 1) / 2 = <y, y'> for y = (x, 1) / sqrt 2: the same algebra in one dimension more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spillover.diversity import vendi


def score(embeddings_ND: NDArray[np.floating], order: float = 1.0) -> float:
    """Shifted-kernel score of unit-norm embeddings."""
    x_ND = np.asarray(embeddings_ND, dtype=np.float64)
    x_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    return vendi.score(np.column_stack([x_ND, np.ones(len(x_ND))]) / np.sqrt(2), order)
