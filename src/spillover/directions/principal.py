"""First principal component of the paired differences (Zou et al., arXiv 2310.01405).

v_l = the unit vector u with the largest sum over questions of (d_q . u)^2, not centred, because the mean is the signal;
its sign is that of the mean difference. Its length is how far apart the classes are along it: mean d_q . u.
"""

from __future__ import annotations

import numpy as np

from spillover.directions.base import Answers, Floats, differences, ratio


def find(answers: Answers) -> Floats:
    """vectors_LD."""
    d_LQD = differences(answers).swapaxes(0, 1)
    # of fewer questions than dimensions: the axis is the differences' sum, weighted by the Gram matrix's first vector
    _, vectors_LQQ = np.linalg.eigh(d_LQD @ d_LQD.swapaxes(1, 2))
    axis_LD = np.einsum("lq,lqd->ld", vectors_LQQ[:, :, -1], d_LQD)
    u_LD = ratio(axis_LD, np.linalg.norm(axis_LD, axis=1, keepdims=True))
    return u_LD * np.einsum("ld,ld->l", u_LD, d_LQD.mean(1))[:, None]
