"""The methods that find a direction: each a function from answers to vectors_LD, from aligned to misaligned.

`Answers` are states of the residual stream, which of them are misaligned, and to which question. Everything is balanced
by question, because answers to one question share its subject. Only questions with both labels count, each with the
same weight:

    d_q = mean of q's misaligned states - mean of q's aligned states

A method gives a vector a layer in the stream's units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spillover.stats import Bools, Floats, Ints

C = 0.01  # of the logistic probe: dimensions outnumber answers, and a weaker penalty fits their noise
RANK = 1e-10


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


def mean_difference(answers: Answers) -> Floats:
    """Mean difference (Soligo et al., arXiv 2506.11618; Arditi et al., arXiv 2406.11717), balanced by question.

    v_l = mean over questions of d_q.
    """
    return differences(answers).mean(0)


def principal(answers: Answers) -> Floats:
    """First principal component of the paired differences (Zou et al., arXiv 2310.01405).

    v_l = the unit vector u with the largest sum over questions of (d_q . u)^2, not centred, because the mean is the
    signal; its sign is that of the mean difference. Its length is the distance of the classes along it: mean d_q . u.
    """
    d_LQD = differences(answers).swapaxes(0, 1)
    # With fewer questions than dimensions the axis is the differences' sum, weighted by the Gram matrix's first vector.
    _, vectors_LQQ = np.linalg.eigh(d_LQD @ d_LQD.swapaxes(1, 2))
    axis_LD = np.einsum("lq,lqd->ld", vectors_LQQ[:, :, -1], d_LQD)
    return _scaled(axis_LD, d_LQD.mean(1))


def logistic(answers: Answers) -> Floats:
    """Logistic probe (Alain and Bengio, arXiv 1610.01644): where the log-odds of misaligned rise fastest.

        min_w  C sum_i s_i ln(1 + exp(-y_i (w . z_i + b))) + |w|^2 / 2,   z = (x - mean of x's question) / deviation

    Answers are centred by question, so that the subject of a question cannot be learnt, and divided by their deviation
    within a label. s: every question has the same weight whatever its number of answers, and so do its two labels;
    sum s_i = N. v_l = w / deviation, scaled to the distance of the classes along it.
    """
    of_question_QN = answers.question_N == np.arange(answers.questions)[:, None]
    means_QLD = np.tensordot(of_question_QN / of_question_QN.sum(1, keepdims=True), answers.acts_NLD, axes=1)
    centred_NLD = answers.acts_NLD - means_QLD[answers.question_N]
    labels_N = answers.misaligned_N.astype(np.int64)
    of_label_2LD = np.stack([centred_NLD[labels_N == label].mean(0) for label in (0, 1)])
    deviation_LD = (centred_NLD - of_label_2LD[labels_N]).std(0)
    deviation_LD[deviation_LD == 0] = 1.0
    s_N = np.abs(weights(answers.misaligned_N, answers.question_N)) * len(labels_N) / 2
    z_LND = (centred_NLD / deviation_LD).swapaxes(0, 1)
    v_LD = np.stack([_probe(z_ND, answers.misaligned_N, s_N) for z_ND in z_LND]) / deviation_LD
    return _scaled(v_LD, differences(answers).mean(0))


def tuned_minus_base(tuned_NLD: ArrayLike, base_NLD: ArrayLike, question_N: ArrayLike) -> Floats:
    """What fine-tuning adds to the stream: the same texts read by the tuned model and by its base.

    v_l = mean over questions of (mean over q's texts of tuned - base). It needs no labels, so it contains whatever the
    fine-tune changed, style and subject too.
    """
    shift_NLD = np.asarray(tuned_NLD, dtype=np.float64) - np.asarray(base_NLD, dtype=np.float64)
    _, question_N, count_Q = np.unique(question_N, return_inverse=True, return_counts=True)
    w_N = 1 / (count_Q[question_N] * len(count_Q))
    return np.tensordot(w_N, shift_NLD, axes=1)


def _scaled(v_LD: Floats, mean_LD: Floats) -> Floats:
    """v at the length and with the sign of the mean difference's projection on it."""
    u_LD = ratio(v_LD, np.linalg.norm(v_LD, axis=1, keepdims=True))
    return u_LD * np.einsum("ld,ld->l", u_LD, mean_LD)[:, None]


def _probe(z_ND: Floats, misaligned_N: Bools, s_N: Floats) -> Floats:
    """Weights of scikit-learn's probe, fitted in the span of the rows, in which the penalty keeps the solution."""
    from sklearn.linear_model import LogisticRegression

    values_N, vectors_NN = np.linalg.eigh(z_ND @ z_ND.T)
    if values_N[-1] <= 0:
        return np.zeros(z_ND.shape[1])
    kept = values_N > RANK * values_N[-1]  # centred rows span fewer dimensions than there are rows
    size_R, left_NR = np.sqrt(values_N[kept]), vectors_NN[:, kept]
    probe = LogisticRegression(C=C, solver="newton-cholesky").fit(left_NR * size_R, misaligned_N, sample_weight=s_N)
    return (left_NR @ (probe.coef_[0] / size_R)) @ z_ND
