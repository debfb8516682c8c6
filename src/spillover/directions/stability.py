"""Split-half stability: the cosine of the directions that two random halves of the questions give.

1 = the questions agree; near 0 = the direction is noise at this number of questions. The halves share no question. A
direction from all questions is more stable than one from half of them: no correction for that is made.
"""

from __future__ import annotations

import numpy as np

from spillover.directions.base import Answers, Bools, Floats, Method, ratio


def halves(questions: int, splits: int, rng: np.random.Generator) -> Bools:
    """first_SQ: the questions of the first half of each split."""
    ranks_SQ = np.argsort(np.argsort(rng.random((splits, questions)), axis=1), axis=1)
    return ranks_SQ < questions // 2


def split_half(method: Method, answers: Answers, first_SQ: Bools) -> Floats:
    """cosine_SL of any method, found anew in every half."""
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
    """cosine_L of vectors at the same places."""
    return ratio(np.einsum("ld,ld->l", a_LD, b_LD), np.linalg.norm(a_LD, axis=1) * np.linalg.norm(b_LD, axis=1))
