"""What a method sees: answers as states of the residual stream, which of them are misaligned, and to which question.

Everything here is balanced by question, because answers to one question share its subject. Only questions with both
labels count, each with the same weight:

    d_q = mean of q's misaligned states - mean of q's aligned states

A method is a pure function Answers -> vectors_LD: a vector a layer, from aligned to misaligned, in the stream's units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spillover.stats import Bools, Floats, Ints


@dataclass(frozen=True)
class Answers:
    """N answers at L layers, sorted by question, to Q questions that each have misaligned and aligned answers.

    `asked_Q`: the number by which the caller knows each question; `left_out`: answers to questions with one label only.
    """

    acts_NLD: Floats
    misaligned_N: Bools
    question_N: Ints  # 0 to Q - 1
    asked_Q: Ints
    left_out: int = 0

    @property
    def questions(self) -> int:
        return len(self.asked_Q)

    @property
    def misaligned(self) -> int:
        return int(self.misaligned_N.sum())

    @property
    def aligned(self) -> int:
        return len(self.misaligned_N) - self.misaligned

    def of_questions(self, kept_Q: Bools) -> Answers:
        """The answers to some of the questions."""
        chosen_N = kept_Q[self.question_N]
        renumbered_N = (np.cumsum(kept_Q) - 1)[self.question_N[chosen_N]]
        return Answers(self.acts_NLD[chosen_N], self.misaligned_N[chosen_N], renumbered_N, self.asked_Q[kept_Q])


Method = Callable[[Answers], Floats]


def paired(acts_NLD: ArrayLike, misaligned_N: ArrayLike, question_N: ArrayLike) -> Answers:
    """Answers to the questions that have both labels; questions are renumbered in their old order."""
    acts_NLD = np.asarray(acts_NLD, dtype=np.float64)
    misaligned_N, question_N = np.asarray(misaligned_N, dtype=bool), np.asarray(question_N, dtype=np.int64)
    if not (acts_NLD.ndim == 3 and misaligned_N.shape == question_N.shape == acts_NLD.shape[:1]):
        raise ValueError(f"states {acts_NLD.shape}, labels {misaligned_N.shape}, questions {question_N.shape} differ")
    both = np.intersect1d(question_N[misaligned_N], question_N[~misaligned_N])
    kept_N = np.flatnonzero(np.isin(question_N, both))
    kept_N = kept_N[np.argsort(question_N[kept_N], kind="stable")]
    numbered_N = np.searchsorted(both, question_N[kept_N])
    return Answers(acts_NLD[kept_N], misaligned_N[kept_N], numbered_N, both, len(question_N) - len(kept_N))


def weights(misaligned: ArrayLike, question_N: Ints) -> Floats:
    """Weights w_N, or w_PN for P labellings, with sum_i w_i x_i = mean of d_q.

    A labelling must leave every question both labels.
    """
    misaligned_PN = np.atleast_2d(np.asarray(misaligned, dtype=bool))
    questions = int(question_N[-1]) + 1
    of_question_NQ = np.eye(questions)[question_N]
    bad_PQ = misaligned_PN @ of_question_NQ
    good_PQ = of_question_NQ.sum(0) - bad_PQ
    w_PN = np.where(misaligned_PN, 1 / bad_PQ[:, question_N], -1 / good_PQ[:, question_N]) / questions
    return w_PN if np.ndim(misaligned) == 2 else w_PN[0]


def ratio(a: Floats, b: Floats) -> Floats:
    """a / b, and 0 where b is 0: a vector of length 0 is similar to nothing."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0)


def differences(answers: Answers) -> Floats:
    """d_QLD."""
    w_N = weights(answers.misaligned_N, answers.question_N) * answers.questions
    w_QN = np.where(answers.question_N == np.arange(answers.questions)[:, None], w_N, 0.0)
    return np.tensordot(w_QN, answers.acts_NLD, axes=1)
