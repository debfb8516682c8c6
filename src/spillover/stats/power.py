"""How many questions, answers and seeds a target precision needs.

The variance of a rate R over Q questions, A answers to each and S seeds, from its components as intraclass correlations
(shares of R (1 - R), see `spillover.stats.variance`):

    V = R (1 - R) (question / Q + seed / S + mixed / (S Q) + rest / (S Q A)),   rest = 1 - question - seed - mixed

Half-width: t(Q - 1 + NU) sqrt(V), the interval of `spillover.stats.clustered` at a rate away from 0 and 1. The
difference of two cells that are asked the same questions has variance 2 V - 2 alike question R (1 - R) / Q, `alike`
being the correlation of the two cells' rates over questions; it is detected at the target power when

    difference = (t_(1 + confidence) / 2 + t_power) sqrt(V_difference).

Defaults, measured on the misaligned answers among the coherent ones of 13 public fine-tuned models (Turner et al.'s
model organisms), 8 questions x 50 answers each, judged by GPT-4o: rate 0.09 and question correlation 0.10 (medians),
alike 0.36 (mean of all pairs, logit scale). Seed 0.01 and mixed 0 are guesses: the one public pair with two seeds shows
no variance between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from spillover.stats import Floats
from spillover.stats.clustered import NU, t_quantile


@dataclass(frozen=True)
class Variances:
    """Intraclass correlations of a rate, and how alike two cells are over questions."""

    rate: float = 0.09
    question: float = 0.10
    seed: float = 0.01
    mixed: float = 0.0
    alike: float = 0.36


@dataclass(frozen=True)
class Design:
    """`reached`: the half-width, or the difference that is found, as a share."""

    questions: int
    answers: int
    seeds: int
    reached: float

    @property
    def asked(self) -> int:
        """Answers a cell, all seeds together."""
        return self.questions * self.answers * self.seeds


def half_width(v: Variances, questions: Floats, answers: Floats, seeds: int, confidence: float) -> Floats:
    """Half the width of a rate's interval."""
    return t_quantile(questions - 1 + NU, confidence) * np.sqrt(_variance(v, questions, answers, seeds))


def detectable(v: Variances, questions: Floats, answers: Floats, seeds: int, confidence: float, power: float) -> Floats:
    """The difference of two cells' rates that is found with chance `power`."""
    shared = v.rate * (1 - v.rate) * v.alike * v.question / questions
    error = np.sqrt(2 * (_variance(v, questions, answers, seeds) - shared))
    df = questions - 1 + NU
    return (t_quantile(df, confidence) + scipy_stats.t.ppf(power, df)) * error


def designs(
    v: Variances, target: float, confidence: float, power: float | None, seeds: int, most_questions: int = 400
) -> list[Design]:
    """Designs that reach `target`, fewest questions first; each with the fewest answers that do, while answers pay.

    `power` None: half-width. A design is left out when one with fewer questions asks for no more answers in all.
    """
    questions = np.unique(np.round(np.geomspace(4, most_questions, 60))).astype(np.float64)
    answers = np.unique(np.round(np.geomspace(1, 1000, 150))).astype(np.float64)
    grid_Q1, grid_1A = questions[:, None], answers[None, :]
    reached_QA = (
        half_width(v, grid_Q1, grid_1A, seeds, confidence)
        if power is None
        else detectable(v, grid_Q1, grid_1A, seeds, confidence, power)
    )
    enough_QA = reached_QA <= target
    found: list[Design] = []
    for q in np.flatnonzero(enough_QA.any(1)).tolist():
        a = int(np.argmax(enough_QA[q]))
        design = Design(int(questions[q]), int(answers[a]), seeds, float(reached_QA[q, a]))
        if not found or design.asked < found[-1].asked:
            found.append(design)
    return found


def _variance(v: Variances, questions: Floats, answers: Floats, seeds: int) -> Floats:
    rest = 1 - v.question - v.seed - v.mixed
    parts = v.question / questions + v.seed / seeds + v.mixed / (seeds * questions)
    return v.rate * (1 - v.rate) * (parts + rest / (seeds * questions * answers))
