"""Nulls: labels permuted within questions, and random directions.

Permuting labels keeps how many misaligned answers each question has, so what questions are about cannot pass for a
direction. A random direction has no more to do with the labels than any other: D numbers drawn from a normal
distribution, whose length does not matter where directions or projections are ranked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from spillover.directions.base import Answers, Bools, Floats, weights


def permuted_labels(answers: Answers, count: int, rng: np.random.Generator) -> Bools:
    """misaligned_PN: the labels of each question in `count` random orders."""
    keys_PN = answers.question_N + rng.random((count, len(answers.question_N)))
    return answers.misaligned_N[np.argsort(keys_PN, axis=1)]


def norm_p(answers: Answers, permuted_PN: Bools) -> Floats:
    """p_L: the chance that permuted labels give a mean difference at least as long."""
    acts_LND = answers.acts_NLD.swapaxes(0, 1)
    grams_LNN = acts_LND @ acts_LND.swapaxes(1, 2)
    w_PN = weights(np.vstack([answers.misaligned_N[None], permuted_PN]), answers.question_N)
    squares_LP = np.stack([((w_PN @ gram_NN) * w_PN).sum(1) for gram_NN in grams_LNN])
    return p_value(squares_LP[:, 0], squares_LP[:, 1:])


def p_value(seen_X: ArrayLike, null_XP: Floats) -> Floats:
    """Share of the null at least as large, the value seen counted in; rounding does not part what is equal."""
    slack = 1 - 1e-9 * np.sign(seen_X)
    reached_X = (null_XP >= (np.asarray(seen_X) * slack)[..., None]).sum(-1)
    return (1 + reached_X) / (1 + null_XP.shape[-1])


def random_directions(dimensions: int, count: int, rng: np.random.Generator) -> Floats:
    """vectors_RD, uniform over the directions of the space, of length 1."""
    vectors_RD = rng.standard_normal((count, dimensions))
    return vectors_RD / np.linalg.norm(vectors_RD, axis=1, keepdims=True)


def random_cosine(dimensions: int, confidence: float) -> float:
    """Bound that the |cosine| of two random directions stays below with that chance: cos^2 ~ Beta(1/2, (D - 1) / 2)."""
    return float(np.sqrt(scipy_stats.beta.ppf(confidence, 0.5, (dimensions - 1) / 2)))
