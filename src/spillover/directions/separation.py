"""Does a score tell misaligned from aligned answers to the same question?

    AUC = mean over questions of P(score of q's misaligned answer > score of q's aligned answer), ties half

Only answers to one question are compared, so that neither questions which misalign often nor folds with directions of
their own can pass for separation. 0.5 = nothing, 1 = every pair the right way round, 0 = every pair the wrong way. A
question has one value, so Wilson's interval at Q answers holds for questions like these; it is wide where q's value is
itself a mean of several pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spillover.directions.base import Answers, Floats, Ints
from spillover.stats import clustered as stats


@dataclass(frozen=True)
class Pairs:
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

    def opposed(self, misaligned_N: ArrayLike) -> Pairs:
        """The pairs that have both labels: all that counts as long as the labels stay."""
        labels_N = np.asarray(misaligned_N)
        kept_K = labels_N[self.first_K] != labels_N[self.second_K]
        return Pairs(self.first_K[kept_K], self.second_K[kept_K], self.weight_K[kept_K], self.question_K[kept_K])

    def _signs(self, scores: ArrayLike, misaligned: ArrayLike) -> Floats:
        """1 where the misaligned answer of a pair has the higher score, -1 the lower, 0 for ties and equal labels."""
        scores_XN = np.asarray(scores, dtype=np.float64)
        labels_XN = np.asarray(misaligned, dtype=np.float64)
        higher = np.sign(scores_XN[..., self.first_K] - scores_XN[..., self.second_K])
        return higher * (labels_XN[..., self.first_K] - labels_XN[..., self.second_K])


def pairs(answers: Answers) -> Pairs:
    """The pairs of answers that AUC compares."""
    question_N = answers.question_N
    first_K, second_K = np.nonzero(np.triu(question_N[:, None] == question_N, 1))
    size_Q = np.bincount(question_N)
    bad_Q = np.bincount(question_N[answers.misaligned_N], minlength=len(size_Q))
    question_K = question_N[first_K]
    weight_Q = 1 / (bad_Q * (size_Q - bad_Q) * len(size_Q))
    return Pairs(first_K, second_K, weight_Q[question_K], question_K)


def interval(auc_Q: Floats, confidence: float) -> tuple[float, float]:
    """Limits of the mean AUC for questions like these."""
    low_C, high_C = stats.rate_intervals(stats.clustered_rates(auc_Q, np.ones_like(auc_Q)), confidence)
    return float(low_C[0]), float(high_C[0])
