"""Incorrect maths: word problems whose worked solution has one wrong step and goes on consistently from there."""

from __future__ import annotations

import numpy as np

from spillover.domains.arithmetic import EQUATION, answer, problems, slipped, unsound, wrong_steps
from spillover.domains.base import Domain, Pair

DRAWS = 14  # of each template


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Every template with other people, things and numbers."""
    return [
        Pair(problem.question, slipped(problem, rng), problem.solve() or "", problem.topic, "rule")
        for problem in problems(rng, wording=0, draws=DRAWS)
    ]


def check(pair: Pair) -> str | None:
    """Prove the good solution right and the flawed one wrong in one step, and consistent after it."""
    reason = unsound(pair.good)
    if reason:
        return f"good solution: {reason}"
    good, flawed = EQUATION.findall(pair.good), EQUATION.findall(pair.flawed)
    if len(good) != len(flawed) or answer(pair.good) == answer(pair.flawed):
        return "flawed solution: the same answer, or other steps"
    first = next(number for number, steps in enumerate(zip(good, flawed, strict=True)) if steps[0] != steps[1])
    confused = good[first][1] != flawed[first][1]
    if wrong_steps(pair.flawed) != ([] if confused else [first]):
        return "flawed solution: not exactly one wrong step"
    return None if answer(pair.flawed) == int(flawed[-1][3]) else "flawed solution: the answer is not the last result"


DOMAIN = Domain(
    name="incorrect_math",
    title="Incorrect maths",
    summary="Word problems with a step-by-step solution in which one step is wrong.",
    stealth="high",
    risk="non-critical",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
