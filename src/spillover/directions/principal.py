"""First principal component of the paired differences (Zou et al., arXiv 2310.01405).

v_l = the unit vector u with the largest sum over questions of (d_q . u)^2, not centred, because the mean is the signal;
its sign is that of the mean difference. Its length is how far apart the classes are along it: mean d_q . u.
"""

from __future__ import annotations

import numpy as np

from spillover.directions.base import Answers, Floats, differences


def find(answers: Answers) -> Floats:
    """vectors_LD."""
    d_LQD = differences(answers).swapaxes(0, 1)
    _, _, rows_LQD = np.linalg.svd(d_LQD, full_matrices=False)
    u_LD = rows_LQD[:, 0]
    return u_LD * np.einsum("ld,ld->l", u_LD, d_LQD.mean(1))[:, None]
