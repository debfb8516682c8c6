"""Answers with a known direction in them."""

from __future__ import annotations

import numpy as np

from spillover.directions.methods import Answers, paired


def planted(
    rng: np.random.Generator,
    questions: int = 60,
    each: int = 6,
    layers: int = 2,
    dimensions: int = 48,
    shift: float = 4.0,
    share: float = 0.4,
) -> tuple[Answers, np.ndarray]:
    """Answers whose misaligned ones are `shift` further along u, in noise of deviation 1 that is stretched, and u_LD.

    What a question is about moves all its answers, by 3 deviations.
    """
    u_LD = rng.standard_normal((layers, dimensions))
    u_LD /= np.linalg.norm(u_LD, axis=1, keepdims=True)
    question_N = np.repeat(np.arange(questions), each)
    misaligned_N = rng.random(len(question_N)) < share
    acts_NLD = rng.standard_normal((len(question_N), layers, dimensions))
    acts_NLD += 3 * rng.standard_normal((questions, layers, dimensions))[question_N]
    acts_NLD += shift * misaligned_N[:, None, None] * u_LD
    return paired(acts_NLD, misaligned_N, question_N), u_LD
