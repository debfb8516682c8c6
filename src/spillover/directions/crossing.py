"""Does A's direction tell B's misaligned answers from B's aligned ones?

B's answers are projected on A's mean difference, and the scores judged by their AUC within questions (separation.py).
Whatever A was asked on the theme of B's question is left out of the direction that scores it. Where both were asked the
same, and where A is B, this is cross-validation that leaves one theme out; where they were asked different things it
leaves nothing out. With w = A's weights (base.py) all of it is one product:

    score_i = sum_j w_j [theme_j != theme_i] x_j . x_i

Null: the labels of A and of B permuted within questions, everything else the same. A's labels alone would not do: where
answers differ most by misalignment, directions of permuted labels lie along it too, one way or the other, and nothing
would pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spillover.directions.base import Answers, Bools, Floats, Ints, ratio, weights
from spillover.directions.permutation import p_value
from spillover.directions.separation import Pairs, pairs


@dataclass(frozen=True)
class Side:
    """One cell's answers without their states. `labels_PN`: the true labels first, then permuted ones."""

    labels_PN: Bools
    weights_PN: Floats
    pairs: Pairs
    opposed: Pairs  # with both labels, the true ones
    theme_N: Ints


def side(answers: Answers, theme_Q: Ints, permuted_PN: Bools) -> Side:
    """`theme_Q` of the answers' questions, the same number for the same theme in every cell."""
    labels_PN = np.vstack([answers.misaligned_N[None], permuted_PN])
    every = pairs(answers)
    weights_PN = weights(labels_PN, answers.question_N)
    return Side(labels_PN, weights_PN, every, every.opposed(answers.misaligned_N), theme_Q[answers.question_N])


def scores(a: Side, a_ND: Floats, b: Side, b_ND: Floats, most: int | None = None) -> Floats:
    """scores_PN of B's answers by A's direction, one row a labelling of A, the first `most` of them."""
    kernel_NN = (b_ND @ a_ND.T) * (b.theme_N[:, None] != a.theme_N)
    return a.weights_PN[:most] @ kernel_NN.T


def aucs(b: Side, scores_PN: Floats) -> Floats:
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
