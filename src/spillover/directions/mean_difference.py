"""Mean difference (Soligo et al., arXiv 2506.11618; Arditi et al., arXiv 2406.11717), balanced by question.

v_l = mean over questions of d_q: misaligned minus aligned, in the residual stream's own units.
"""

from __future__ import annotations

from spillover.directions.base import Answers, Floats, differences


def find(answers: Answers) -> Floats:
    """vectors_LD."""
    return differences(answers).mean(0)
