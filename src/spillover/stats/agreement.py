"""How far two judges agree on the same answers, with intervals that resample questions.

Decisions: a 2 x 2 table; share agreeing = (both + neither) / n; Cohen's (1960) kappa = (p_o - p_e) / (1 - p_e), with
p_e from the margins. Scores: quadratic weighted kappa (Cohen 1968) over the scores themselves,

    kappa_w = 1 - mean((a - b)^2) / (var a + var b + (mean a - mean b)^2),

which needs no bins and is Lin's (1989) concordance coefficient; Spearman with midranks; bias = mean(b - a). AUC =
chance that b is lower for an answer with a positive label than for another, ties counting half.

Intervals: bootstrap over questions. Few questions make percentile intervals too narrow, so their ends are taken further
out, at Phi(-t(Q - 1) sqrt(Q / (Q - 1))) (the expanded percentile interval of Hesterberg 2015). With one question, or
where most draws leave a figure undefined, there is no interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from spillover.records.base import Estimate
from spillover.records.judges import Decision, Scores
from spillover.stats import Bools, Floats, Ints
from spillover.stats.clustered import t_quantile

BLOCK = 4_000_000  # draws times answers held at once


@dataclass(frozen=True)
class Resampler:
    """`weights_BQ`: how often each draw takes each question; the first row is the sample itself."""

    weights_BQ: Floats
    confidence: float

    @classmethod
    def of(cls, questions: int, confidence: float, draws: int, rng: np.random.Generator) -> Resampler:
        """Draws of as many questions as there are, with replacement."""
        drawn_BQ = rng.multinomial(questions, np.full(questions, 1 / questions), size=draws if questions > 1 else 0)
        return cls(np.vstack([np.ones(questions), drawn_BQ]).astype(np.float64), confidence)

    def estimate(self, value_B: Floats) -> Estimate:
        """The first value, with the interval of the rest."""
        value = float(value_B[0])
        drawn = value_B[1:][~np.isnan(value_B[1:])]
        if np.isnan(value):
            return Estimate(value=None, low=None, high=None)
        if len(drawn) < len(value_B) / 2 or len(drawn) < 2:
            return Estimate(value=value, low=None, high=None)
        questions = self.weights_BQ.shape[1]
        t = t_quantile(questions - 1, self.confidence) * np.sqrt(questions / (questions - 1))
        tail = float(scipy_stats.norm.cdf(-t))
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))


def decision(first_N: Bools, second_N: Bools, question_N: Ints, resampler: Resampler) -> Decision:
    """Two judges' yes or no on the same answers."""
    cell_N = 2 * first_N.astype(np.int64) + second_N
    counts_Q4 = _sums(question_N * 4 + cell_N, np.ones(len(cell_N)), resampler, 4)
    counts_B4 = resampler.weights_BQ @ counts_Q4
    neither, second_only, first_only, both = (int(count) for count in counts_B4[0])
    agree_B, kappa_B = kappa(counts_B4)
    return Decision(
        n=len(first_N),
        both=both,
        first_only=first_only,
        second_only=second_only,
        neither=neither,
        agree=resampler.estimate(agree_B),
        kappa=resampler.estimate(kappa_B),
    )


def mean(values_N: Floats, question_N: Ints, resampler: Resampler) -> Estimate:
    """The mean over answers."""
    totals_QK = np.concatenate(
        [_sums(question_N, x_N, resampler) for x_N in (np.ones_like(values_N), values_N)], axis=1
    )
    n_B, total_B = (resampler.weights_BQ @ totals_QK).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return resampler.estimate(total_B / n_B)


def kappa(counts_B4: Floats) -> tuple[Floats, Floats]:
    """Share agreeing and Cohen's kappa of tables (neither, second only, first only, both)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share_B4 = counts_B4 / counts_B4.sum(1, keepdims=True)
        agree_B = share_B4[:, 0] + share_B4[:, 3]
        first_B, second_B = share_B4[:, 2] + share_B4[:, 3], share_B4[:, 1] + share_B4[:, 3]
        chance_B = first_B * second_B + (1 - first_B) * (1 - second_B)
        return agree_B, np.where(1 - chance_B > 1e-12, (agree_B - chance_B) / (1 - chance_B), np.nan)


def scores(first_N: Floats, second_N: Floats, question_N: Ints, resampler: Resampler) -> Scores:
    """Two judges' scores of the same answers."""
    n = len(first_N)
    if not n:
        none = Estimate(value=None, low=None, high=None)
        return Scores(n=0, mean_first=None, mean_second=None, bias=none, weighted_kappa=none, spearman=none)
    # Around one centre: differences of large sums of squares would cost digits.
    centre = float((first_N.mean() + second_N.mean()) / 2)
    a_N, b_N = first_N - centre, second_N - centre
    columns = (np.ones(n), a_N, b_N, a_N**2, b_N**2, (a_N - b_N) ** 2)
    sums_QK = np.concatenate([_sums(question_N, column, resampler) for column in columns], axis=1)
    n_B, a_B, b_B, aa_B, bb_B, dd_B = (resampler.weights_BQ @ sums_QK).T
    with np.errstate(divide="ignore", invalid="ignore"):
        a_B, b_B = a_B / n_B, b_B / n_B
        spread_B = aa_B / n_B - a_B**2 + bb_B / n_B - b_B**2 + (a_B - b_B) ** 2
        weighted_B = np.where(spread_B > 1e-12, 1 - dd_B / n_B / spread_B, np.nan)
    return Scores(
        n=n,
        mean_first=float(first_N.mean()),
        mean_second=float(second_N.mean()),
        bias=resampler.estimate(b_B - a_B),
        weighted_kappa=resampler.estimate(weighted_B),
        spearman=resampler.estimate(spearman(first_N, second_N, question_N, resampler.weights_BQ)),
    )


def spearman(first_N: Floats, second_N: Floats, question_N: Ints, weights_BQ: Floats) -> Floats:
    """Spearman's correlation of every draw, in which each answer counts as often as its question was taken."""
    codes: list[Ints] = [np.unique(x_N, return_inverse=True)[1].astype(np.int64) for x_N in (first_N, second_N)]
    place_QV = [_histogram(question_N, code_N, weights_BQ.shape[1]) for code_N in codes]

    def block(rows_BQ: Floats) -> Floats:
        ranks: list[Floats] = []
        for code_N, counts_QV in zip(codes, place_QV, strict=True):
            counts_BV = rows_BQ @ counts_QV
            ranks.append((np.cumsum(counts_BV, axis=1) - counts_BV / 2)[:, code_N])  # midranks less a half
        weight_BN = rows_BQ[:, question_N]
        n_B = weight_BN.sum(1, keepdims=True)
        x_BN, y_BN = (r_BN - n_B / 2 for r_BN in ranks)  # the mean of midranks less a half is n / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            cross_B = (weight_BN * x_BN * y_BN).sum(1)
            return cross_B / np.sqrt((weight_BN * x_BN**2).sum(1) * (weight_BN * y_BN**2).sum(1))

    return _in_blocks(block, weights_BQ, len(first_N))


def auc(positive_N: Bools, score_N: Floats, question_N: Ints, resampler: Resampler) -> Estimate:
    """Chance that a positive answer has the lower score."""
    questions = resampler.weights_BQ.shape[1]
    code_N = np.unique(score_N, return_inverse=True)[1].astype(np.int64)
    above_QV = _histogram(question_N[positive_N], code_N[positive_N], questions, int(code_N.max(initial=-1)) + 1)
    rest_QV = _histogram(question_N[~positive_N], code_N[~positive_N], questions, int(code_N.max(initial=-1)) + 1)
    # wins[q, r]: pairs of a positive of q and another of r in which the positive is lower, ties half
    higher_QV = rest_QV.sum(1, keepdims=True) - np.cumsum(rest_QV, axis=1) + rest_QV / 2
    wins_QQ = above_QV @ higher_QV.T
    weights_BQ = resampler.weights_BQ
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs_B = (weights_BQ @ above_QV.sum(1)) * (weights_BQ @ rest_QV.sum(1))
        return resampler.estimate(np.einsum("bq,bq->b", weights_BQ @ wins_QQ, weights_BQ) / pairs_B)


def _histogram(question_N: Ints, code_N: Ints, questions: int, values: int | None = None) -> Floats:
    """How many answers of each question have each value (Q, V)."""
    width = int(code_N.max(initial=-1)) + 1 if values is None else values
    counts = np.bincount(question_N * width + code_N, minlength=questions * width)
    return counts.reshape(questions, width).astype(np.float64)


def _sums(place_N: Ints, values_N: Floats, resampler: Resampler, width: int = 1) -> Floats:
    questions = resampler.weights_BQ.shape[1]
    return np.bincount(place_N, values_N, minlength=questions * width).reshape(questions, width).astype(np.float64)


def _in_blocks(work: Callable[[Floats], Floats], weights_BQ: Floats, n: int) -> Floats:
    size = max(1, BLOCK // max(1, n))
    return np.concatenate([work(weights_BQ[start : start + size]) for start in range(0, len(weights_BQ), size)])
