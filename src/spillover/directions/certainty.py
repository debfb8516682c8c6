"""How certain a direction is: split halves of the questions, permuted labels, and random directions.

Split halves: the cosine of the directions from two random halves of the questions, which share none. 1 = the questions
agree; near 0 = the direction is noise at this number of questions. A direction from all questions is more stable than
one from half of them; no correction is made for that.

Permuting labels within questions keeps how many misaligned answers each question has, so the subjects of questions
cannot pass for a direction. A random direction has no more to do with the labels than any other: D numbers drawn from a
normal distribution, whose length does not matter where directions or projections are ranked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from spillover.directions.methods import Answers, Method, ratio, weights
from spillover.stats import Bools, Floats


def random_halves(questions: int, splits: int, rng: np.random.Generator) -> Bools:
    """first_SQ: the questions of the first half of each split."""
    ranks_SQ = np.argsort(np.argsort(rng.random((splits, questions)), axis=1), axis=1)
    return ranks_SQ < questions // 2


def split_half(method: Method, answers: Answers, first_SQ: Bools) -> Floats:
    """cosine_SL of any method, applied to every half."""
    found = [[method(answers.of_questions(half_Q)) for half_Q in (first_Q, ~first_Q)] for first_Q in first_SQ]
    return np.stack([cosines(a_LD, b_LD) for a_LD, b_LD in found])


def split_half_means(d_QLD: Floats, first_SQ: Bools) -> Floats:
    """cosine_SL of mean differences, from the questions' inner products alone."""
    d_LQD = d_QLD.swapaxes(0, 1)
    grams_LQQ = d_LQD @ d_LQD.swapaxes(1, 2)
    a_SQ = first_SQ / first_SQ.sum(1, keepdims=True)
    b_SQ = ~first_SQ / (~first_SQ).sum(1, keepdims=True)
    found: list[Floats] = []
    for gram_QQ in grams_LQQ:
        ga_SQ, gb_SQ = a_SQ @ gram_QQ, b_SQ @ gram_QQ
        lengths_S = np.sqrt((ga_SQ * a_SQ).sum(1) * (gb_SQ * b_SQ).sum(1))
        found.append(ratio((ga_SQ * b_SQ).sum(1), lengths_S))
    return np.stack(found, axis=1)


def cosines(a_LD: Floats, b_LD: Floats) -> Floats:
    """cosine_L of the vectors at each layer."""
    return ratio(np.einsum("ld,ld->l", a_LD, b_LD), np.linalg.norm(a_LD, axis=1) * np.linalg.norm(b_LD, axis=1))


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
    """Share of the null at least as large, the value seen included; rounding does not separate equal values."""
    slack = 1 - 1e-9 * np.sign(seen_X)
    reached_X = (null_XP >= (np.asarray(seen_X) * slack)[..., None]).sum(-1)
    return (1 + reached_X) / (1 + null_XP.shape[-1])


def random_directions(dimensions: int, count: int, rng: np.random.Generator) -> Floats:
    """vectors_RD, uniform over the directions of the space, of length 1."""
    vectors_RD = rng.standard_normal((count, dimensions))
    return vectors_RD / np.linalg.norm(vectors_RD, axis=1, keepdims=True)


def random_cosine(dimensions: int, confidence: float) -> float:
    """Quantile of the |cosine| of two random directions: cos^2 ~ Beta(1/2, (D - 1) / 2)."""
    return float(np.sqrt(scipy_stats.beta.ppf(confidence, 0.5, (dimensions - 1) / 2)))
