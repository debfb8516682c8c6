"""How alike the directions of several cells are.

Cosines of mean differences shrink towards 0 with noise: a direction from few questions has length in dimensions without
signal. The corrected cosine is therefore reported too, from products of different questions only, whose noise has mean
0 (a U-statistic):

    corrected = mean_{q != r} a_q . b_r / sqrt( mean_{q != r} a_q . a_r  mean_{q != r} b_q . b_r )

where q = r is left out between cells too if they were asked the same question. It may exceed 1, and is missing where a
length comes out negative: such a direction is indistinguishable from noise.

Intervals of the plain cosine: Fisher's z +- t(Q - 1) standard errors of a bootstrap of questions, Q the smaller number
of a pair; cells asked the same questions are resampled alike. They are about directions from so many questions, not
about those of infinitely many.

Groups: mean cosine within groups of domains minus mean between them, against all assignments of the labels to the
domains (Mantel 1967; one-sided: similarity within groups).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spillover.directions.certainty import p_value
from spillover.directions.methods import ratio
from spillover.stats import Floats, Ints
from spillover.stats.clustered import t_quantile


@dataclass(frozen=True)
class CosineEstimates:
    """C cells; NaN where a corrected cosine is missing."""

    cosine_CC: Floats
    low_CC: Floats
    high_CC: Floats
    corrected_CC: Floats


def estimate_cosines(
    d_RD: Floats, cell_R: Ints, question_R: Ints, confidence: float, draws: int, rng: np.random.Generator
) -> CosineEstimates:
    """Cosines of the mean differences of all cells at one layer.

    Args:
        d_RD: the differences of every cell's questions.
        cell_R: which cell a difference is of, 0 to C - 1.
        question_R: which question, the same number for the same question in every cell.
        confidence: of the intervals.
        draws: resamples of the questions.
        rng: draws them.
    """
    gram_RR = d_RD @ d_RD.T
    of_cell_CR = (cell_R == np.arange(cell_R.max() + 1)[:, None]).astype(np.float64)
    cosine_CC = normalised(of_cell_CR @ gram_RR @ of_cell_CR.T)
    names, number_R = np.unique(question_R, return_inverse=True)
    drawn_BQ = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    z_BCC = np.stack(
        [_z(normalised((w_CR := of_cell_CR * row_R) @ gram_RR @ w_CR.T)) for row_R in drawn_BQ[:, number_R]]
    )
    questions_C = of_cell_CR.sum(1)
    few_CC = np.minimum(questions_C[:, None], questions_C)
    t_CC = t_quantile(few_CC - 1, confidence)
    half_CC = t_CC * np.sqrt(few_CC / (few_CC - 1)) * np.std(z_BCC, axis=0)
    low_CC, high_CC = np.tanh(_z(cosine_CC) - half_CC), np.tanh(_z(cosine_CC) + half_CC)
    for limit_CC in (low_CC, high_CC):
        np.fill_diagonal(limit_CC, 1.0)
    return CosineEstimates(cosine_CC, low_CC, high_CC, corrected(gram_RR, of_cell_CR, number_R))


def corrected(gram_RR: Floats, of_cell_CR: Floats, question_R: Ints) -> Floats:
    """The corrected cosine; NaN where a squared length is not positive."""
    apart_RR = (question_R[:, None] != question_R).astype(np.float64)
    dot_CC = of_cell_CR @ (gram_RR * apart_RR) @ of_cell_CR.T
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_CC = dot_CC / (of_cell_CR @ apart_RR @ of_cell_CR.T)
        square_C = np.where(np.diag(mean_CC) > 0, np.diag(mean_CC), np.nan)
        return mean_CC / np.sqrt(square_C[:, None] * square_C)


def normalised(dot_CC: Floats) -> Floats:
    """Cosines from inner products; 0 for a vector of length 0."""
    length_C = np.sqrt(np.maximum(np.diagonal(dot_CC, axis1=-2, axis2=-1), 0.0))
    return ratio(dot_CC, length_C[..., :, None] * length_C[..., None, :])


def _z(cosine_CC: Floats) -> Floats:
    return np.arctanh(np.clip(cosine_CC, -1 + 1e-12, 1 - 1e-12))


@dataclass(frozen=True)
class GroupContrast:
    """Mean cosines of pairs within and between groups; `p`: one-sided; the range is with one domain left out."""

    within: float
    between: float
    p: float
    low: float
    high: float


def contrast_groups(cosine_CC: Floats, group_C: Ints, count: int, rng: np.random.Generator) -> GroupContrast | None:
    """Whether cells of one group have more similar directions; None where leaving one out leaves pairs of one kind."""
    cells = len(group_C)
    seen = _contrast(cosine_CC, group_C)
    without = [_contrast(cosine_CC[np.ix_(k, k)], group_C[k]) for k in (np.arange(cells) != c for c in range(cells))]
    if seen is None or any(part is None for part in without):
        return None
    orders_PC = np.argsort(rng.random((count, cells)), axis=1)
    same_PCC = group_C[orders_PC][:, :, None] == group_C[orders_PC][:, None, :]
    upper = np.triu_indices(cells, 1)
    same_PK, cosine_K = same_PCC[:, upper[0], upper[1]], cosine_CC[upper]
    within_P = same_PK @ cosine_K / same_PK.sum(1)
    between_P = ~same_PK @ cosine_K / (~same_PK).sum(1)
    gaps = [a - b for a, b in (part for part in without if part)]
    p = p_value(np.array([seen[0] - seen[1]]), (within_P - between_P)[None])
    return GroupContrast(*seen, float(p[0]), min(gaps), max(gaps))


def _contrast(cosine_CC: Floats, group_C: Ints) -> tuple[float, float] | None:
    upper = np.triu_indices(len(group_C), 1)
    same_K = (group_C[:, None] == group_C)[upper]
    if same_K.all() or not same_K.any():
        return None
    return float(cosine_CC[upper][same_K].mean()), float(cosine_CC[upper][~same_K].mean())
