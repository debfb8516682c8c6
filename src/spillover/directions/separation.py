"""Does a direction separate misaligned from aligned answers to the same question, in its own cell or in another?

    AUC = mean over questions of P(score of q's misaligned answer > score of q's aligned answer), ties half

Only answers to one question are compared, so neither questions that often misalign nor folds with different directions
can pass for separation. 0.5 = nothing, 1 = every pair in the right order, 0 = every pair in the wrong order. A question
has one value, so Wilson's interval at Q answers holds for questions like these; it is wide where q's value is itself a
mean of several pairs.

Does A's direction separate B's answers? B's answers are projected on A's mean difference. Whatever A was asked on the
theme of B's question is left out of the direction that scores it. Where both were asked the same, and where A is B,
this is cross-validation that leaves one theme out; where they were asked different things it leaves out nothing. With
w = A's weights (methods.py) all of it is one product:

    score_i = sum_j w_j [theme_j != theme_i] x_j . x_i

Null: the labels of A and of B permuted within questions, everything else unchanged. Permuting A's labels alone would
not do: where answers differ most by misalignment, directions of permuted labels lie along it too, in either sense, and
nothing would be significant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spillover.directions.certainty import p_value
from spillover.directions.methods import Answers, ratio, weights
from spillover.stats import Bools, Floats, Ints
from spillover.stats import clustered as stats


@dataclass(frozen=True)
class AnswerPairs:
    """Every two answers to one question, and the weight that the pair has where its labels differ."""

    first_K: Ints
    second_K: Ints
    weight_K: Floats
    question_K: Ints

    def auc(self, scores: ArrayLike, misaligned: ArrayLike) -> Floats:
        """AUC_...; axes before the last are of any number and broadcast."""
        return 0.5 + 0.5 * (self._signs(scores, misaligned) @ self.weight_K)

    def auc_by_question(self, scores_N: ArrayLike, misaligned_N: ArrayLike) -> Floats:
        """AUC_Q: P(misaligned > aligned) among the answers to each question."""
        questions = int(self.question_K[-1]) + 1
        signed_K = self._signs(scores_N, misaligned_N) * self.weight_K * questions
        auc_Q = 0.5 + 0.5 * np.bincount(self.question_K, signed_K, minlength=questions).astype(np.float64)
        return np.clip(auc_Q, 0.0, 1.0)  # against rounding

    def opposed(self, misaligned_N: ArrayLike) -> AnswerPairs:
        """The pairs that have both labels: all that count while the labels stay as they are."""
        labels_N = np.asarray(misaligned_N)
        kept_K = labels_N[self.first_K] != labels_N[self.second_K]
        return AnswerPairs(self.first_K[kept_K], self.second_K[kept_K], self.weight_K[kept_K], self.question_K[kept_K])

    def _signs(self, scores: ArrayLike, misaligned: ArrayLike) -> Floats:
        """1 where the misaligned answer of a pair has the higher score, -1 the lower, 0 for ties and equal labels."""
        scores_XN = np.asarray(scores, dtype=np.float64)
        labels_XN = np.asarray(misaligned, dtype=np.float64)
        higher = np.sign(scores_XN[..., self.first_K] - scores_XN[..., self.second_K])
        return higher * (labels_XN[..., self.first_K] - labels_XN[..., self.second_K])


def answer_pairs(answers: Answers) -> AnswerPairs:
    """The pairs of answers that AUC compares."""
    question_N = answers.question_N
    first_K, second_K = np.nonzero(np.triu(question_N[:, None] == question_N, 1))
    size_Q = np.bincount(question_N)
    bad_Q = np.bincount(question_N[answers.misaligned_N], minlength=len(size_Q))
    question_K = question_N[first_K]
    weight_Q = 1 / (bad_Q * (size_Q - bad_Q) * len(size_Q))
    return AnswerPairs(first_K, second_K, weight_Q[question_K], question_K)


def auc_interval(auc_Q: Floats, confidence: float) -> tuple[float, float]:
    """Limits of the mean AUC for questions like these."""
    low_C, high_C = stats.rate_intervals(stats.clustered_rates(auc_Q, np.ones_like(auc_Q)), confidence)
    return float(low_C[0]), float(high_C[0])


@dataclass(frozen=True)
class Labellings:
    """One cell's answers without their states. `labels_PN`: the true labels first, then permuted ones."""

    labels_PN: Bools
    weights_PN: Floats
    pairs: AnswerPairs
    opposed: AnswerPairs  # with both labels, the true ones
    theme_N: Ints


def labellings(answers: Answers, theme_Q: Ints, permuted_PN: Bools) -> Labellings:
    """`theme_Q` of the answers' questions, the same number for the same theme in every cell."""
    labels_PN = np.vstack([answers.misaligned_N[None], permuted_PN])
    every = answer_pairs(answers)
    weights_PN = weights(labels_PN, answers.question_N)
    return Labellings(labels_PN, weights_PN, every, every.opposed(answers.misaligned_N), theme_Q[answers.question_N])


def cross_scores(a: Labellings, a_ND: Floats, b: Labellings, b_ND: Floats, most: int | None = None) -> Floats:
    """scores_PN of B's answers by A's direction, one row a labelling of A, the first `most` of them."""
    kernel_NN = (b_ND @ a_ND.T) * (b.theme_N[:, None] != a.theme_N)
    return a.weights_PN[:most] @ kernel_NN.T


def auc_and_null(b: Labellings, scores_PN: Floats) -> Floats:
    """auc_P: the AUC, then its null."""
    return b.pairs.auc(scores_PN, b.labels_PN[: len(scores_PN)])


def held_out_scores(find: Callable[[Bools], Floats], theme_Q: Ints, b_ND: Floats, b_theme_N: Ints) -> Floats:
    """scores_N of B's answers by any method: `find` gives A's direction from some of A's questions, of `theme_Q`."""
    scores_N = np.zeros(len(b_ND))
    for theme in np.unique(b_theme_N):
        scored_N = b_theme_N == theme
        scores_N[scored_N] = b_ND[scored_N] @ find(theme_Q != theme)
    return scores_N


def familywise(seen_X: Floats, null_PX: Floats) -> Floats:
    """p_X of the largest standardised distance from 1/2 among all X (Westfall and Young 1993)."""
    spread_X = np.sqrt(((null_PX - 0.5) ** 2).mean(0))
    largest_P = ratio(np.abs(null_PX - 0.5), spread_X).max(1)
    return p_value(ratio(np.abs(seen_X - 0.5), spread_X), np.broadcast_to(largest_P, (len(seen_X), len(largest_P))))
