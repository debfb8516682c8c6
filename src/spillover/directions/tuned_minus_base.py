"""What fine-tuning adds to the stream: the same texts read by the tuned model and by what it was tuned from.

v_l = mean over questions of (mean over q's texts of tuned minus base), in the residual stream's own units. It needs no
labels and says so: it holds whatever the fine-tune changed, style and subject too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spillover.directions.base import Floats


def find(tuned_NLD: ArrayLike, base_NLD: ArrayLike, question_N: ArrayLike) -> Floats:
    """vectors_LD."""
    shift_NLD = np.asarray(tuned_NLD, dtype=np.float64) - np.asarray(base_NLD, dtype=np.float64)
    _, question_N, count_Q = np.unique(question_N, return_inverse=True, return_counts=True)
    w_N = 1 / (count_Q[question_N] * len(count_Q))
    return np.tensordot(w_N, shift_NLD, axes=1)
