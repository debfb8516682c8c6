"""What diversity is measured on: parts of a data set's texts, and subsamples of equal size.

Parts: questions, answers, chats, and answers of equal length. Compression, distinct pairs and self-BLEU change with the
length of a text as well as with its content. `answer_cut` is the first `CUT` words of each answer, which nearly every
answer has, so domains differ there in wording alone.

Equal n: every measure grows or falls with the number of texts, so data sets are compared on repeated subsamples of one
size, without replacement. value = mean over subsamples. The interval is the spread of subsamples of m from n texts,
scaled to the uncertainty of a sample of n (Politis and Romano 1994): half-width = quantile of |subsample - mean| times
sqrt(m / n) / sqrt(1 - m / n). With n = m nothing is resampled and the interval is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.stats import Ints

CUT = 20  # words


def parts(chats: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """By name, one text for each (question, answer)."""
    return {
        "question": [question for question, _ in chats],
        "answer": [answer for _, answer in chats],
        "chat": [f"{question}\n{answer}" for question, answer in chats],
        "answer_cut": [" ".join(answer.split()[:CUT]) for _, answer in chats],
    }


@dataclass(frozen=True)
class AtEqualN:
    """`n`: texts in each subsample; `low`, `high` are NaN where nothing could be resampled."""

    n: int
    value: float
    low: float
    high: float


def at_equal_n(
    measure: Callable[[Ints], float], total: int, n: int, draws: int = 40, seed: int = 0, confidence: float = 0.95
) -> AtEqualN:
    """`measure` gets row numbers; the same seed gives the same rows to every measure."""
    if n > total:
        raise ValueError(f"asked for {n} of {total} texts")
    if n == total:
        return AtEqualN(n, measure(np.arange(total)), float("nan"), float("nan"))
    values_B = np.array([measure(rows) for rows in subsets(total, n, draws, seed)])
    centre = float(values_B.mean())
    scale = np.sqrt(n / total) / np.sqrt(1 - n / total)
    half = float(np.quantile(np.abs(values_B - centre), confidence)) * scale
    return AtEqualN(n, centre, centre - half, centre + half)


def subsets(total: int, n: int, draws: int, seed: int) -> list[Ints]:
    """Row numbers of each subsample."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.permutation(total)[:n]) for _ in range(draws)]


def convergence(
    measure: Callable[[Ints], float], total: int, sizes: Sequence[int], draws: int = 10, seed: int = 0
) -> list[tuple[int, float]]:
    """Mean of the measure at growing n: flat at the end means that n was large enough."""
    return [
        (n, float(np.mean([measure(rows) for rows in subsets(total, n, draws, seed)]))) for n in sizes if n <= total
    ]
