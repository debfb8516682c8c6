"""Logistic probe (Alain and Bengio, arXiv 1610.01644): the direction in which the log-odds of misaligned rise fastest.

    min_w  C sum_i s_i ln(1 + exp(-y_i (w . z_i + b))) + |w|^2 / 2,   z = (x - mean of x's question) / deviation

Answers are centred by question, so that what a question is about cannot be learnt, and divided by their deviation
within a label. s: a question counts the same whatever its number of answers, and so do its two labels; sum s_i = N.
C = 0.01: there are more dimensions than answers, and a weaker penalty fits their noise.
v_l = w / deviation, scaled to the length at which the classes are apart along it.
"""

from __future__ import annotations

import numpy as np

from spillover.directions.base import Answers, Bools, Floats, differences, ratio, weights

C = 0.01
RANK = 1e-10


def find(answers: Answers) -> Floats:
    """vectors_LD."""
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
    u_LD = ratio(v_LD, np.linalg.norm(v_LD, axis=1, keepdims=True))
    return u_LD * np.einsum("ld,ld->l", u_LD, differences(answers).mean(0))[:, None]


def _probe(z_ND: Floats, misaligned_N: Bools, s_N: Floats) -> Floats:
    """Weights of scikit-learn's probe, fitted in what the rows span: the penalty keeps the solution in it."""
    from sklearn.linear_model import LogisticRegression

    values_N, vectors_NN = np.linalg.eigh(z_ND @ z_ND.T)
    if values_N[-1] <= 0:
        return np.zeros(z_ND.shape[1])
    kept = values_N > RANK * values_N[-1]  # centred rows span fewer dimensions than there are rows
    size_R, left_NR = np.sqrt(values_N[kept]), vectors_NN[:, kept]
    probe = LogisticRegression(C=C, solver="newton-cholesky").fit(left_NR * size_R, misaligned_N, sample_weight=s_N)
    return (left_NR @ (probe.coef_[0] / size_R)) @ z_ND
