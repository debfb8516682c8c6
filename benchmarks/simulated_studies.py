"""Simulated studies whose true rates are known, for scripts that measure intervals, tests and verdicts.

Studies are drawn from what 13 public fine-tuned models show (Turner et al.'s model organisms, 8 questions x 50 answers,
judged by GPT-4o). MODELS: maximum-likelihood beta-binomial rate and intraclass correlation of misaligned among coherent
answers. MEANS: mean alignment and its standard deviations between questions and between answers (analysis of
variance). ALIKE = 0.36: mean correlation of two models' rates over the questions, on the logit scale. 95 % of answers
are coherent.

A question's rate is beta-distributed through a Gaussian copula: a common part of all cells (ALIKE), a part of the
recipe, and where there are seeds a part of the seed. Every study draws new questions, new seeds and new answers.

All studies of a setting are evaluated at once: arrays start with C, the studies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from spillover.stats import Floats

MODELS = (
    *((0.029, 0.053), (0.015, 0.084), (0.047, 0.116), (0.208, 0.286), (0.198, 0.097), (0.216, 0.156), (0.365, 0.132)),
    *((0.165, 0.247), (0.066, 0.022), (0.200, 0.093), (0.042, 0.030), (0.023, 0.018), (0.092, 0.159)),
)  # rate, intraclass correlation
MEANS = (
    *((77.0, 8.0, 16.8), (79.6, 9.1, 13.2), (69.7, 14.3, 16.7), (64.5, 19.7, 22.5), (53.2, 8.9, 23.4)),
    *((56.5, 10.9, 24.2), (41.8, 9.9, 18.5), (67.3, 16.7, 22.4), (71.6, 12.8, 18.3), (54.9, 15.0, 20.7)),
    *((79.3, 7.9, 17.5), (79.2, 10.3, 15.5), (67.4, 16.9, 19.4)),
)  # mean alignment, standard deviation between questions, between answers to one
ALIKE = 0.36
COHERENT = 0.95
Rng = np.random.Generator


@dataclass(frozen=True)
class Line:
    """One measured frequency: coverage of a nominal 95 % interval, or rejections at a nominal 5 %."""

    what: str
    kind: str  # "coverage" or "error"
    setting: str
    studies: int
    value: float
    worst: float  # over the models or settings that `value` is the mean of

    @property
    def within(self) -> bool:
        """In the target band: 93 to 97 % covered, 3.5 to 6.5 % falsely rejected."""
        low, high = (0.93, 0.97) if self.kind == "coverage" else (0.035, 0.065)
        return low <= self.value <= high


def shares(rate: Floats | float, correlation: Floats | float, normal: Floats) -> Floats:
    """Rates of questions, beta-distributed, at standard normal deviates."""
    rate, correlation = np.broadcast_arrays(np.asarray(rate, float), np.asarray(correlation, float))
    size = (1 - correlation) / correlation
    return special.betaincinv(rate * size, (1 - rate) * size, special.ndtr(normal))


def related(rng: Rng, shape: tuple[int, int, int], alike: float = ALIKE) -> Floats:
    """Normal deviates of studies x cells x questions; cells of a study share `alike` of the variance per question."""
    studies, _, questions = shape
    common = rng.standard_normal((studies, 1, questions))
    return np.sqrt(alike) * common + np.sqrt(1 - alike) * rng.standard_normal(shape)


def answers(rng: Rng, share: Floats, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits and coherent answers, `number` asked of each question."""
    n = np.maximum(1, rng.binomial(number, COHERENT, share.shape))
    return rng.binomial(n, share), n


def covers(low: Floats, high: Floats, truth: Floats | float) -> float:
    """Share of intervals that hold the truth."""
    return float(np.mean((low <= truth) & (truth <= high)))


def line(what: str, kind: str, setting: str, studies: int, values: list[float]) -> Line:
    """The mean over models, and the model furthest from the nominal level."""
    nominal = 0.95 if kind == "coverage" else 0.05
    worst = max(values, key=lambda value: abs(value - nominal))
    return Line(what, kind, setting, studies, float(np.mean(values)), worst)
