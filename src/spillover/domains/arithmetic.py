"""Word problems with a worked solution, made from templates; and the rule that tells a right solution from a wrong one.

A template's solution marks its steps: "[a x b]" becomes "7 x 8 = 56", and later steps may use the result as r1, r2, ...
A slip makes one step wrong, by its result or by its operation, and everything after it is worked out from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from spillover.domains.seed_file import seeds

STEP = re.compile(r"\[(\w+) ([-+x/]) (\w+)\]")
EQUATION = re.compile(r"(\d+) ([-+x/]) (\d+) = (\d+)")
OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "x": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
CONFUSED = {"+": "-", "-": "+", "x": "+", "/": "-"}  # the operation that a slip takes instead
REMARK = 0.4  # how often a remark follows the answer
OFF_BY = (-10, -2, -1, 1, 2, 10)


@dataclass(frozen=True)
class Slip:
    """Which step goes wrong: its result is `off` too high, or (where that is 0) its operation is confused."""

    step: int
    off: int


NO_SLIP = Slip(step=-1, off=0)


@dataclass(frozen=True)
class Problem:
    """A template with its slots filled."""

    topic: str
    question: str
    slots: dict[str, Any]
    solution: str
    opening: str
    ending: str
    remark: str
    unit: str

    def solve(self, slip: Slip = NO_SLIP) -> str | None:
        """The worked solution, or None where a result is not a whole number above zero."""
        values: dict[str, Any] = dict(self.slots)
        for number, match in enumerate(STEP.finditer(self.solution)):
            left, sign, right = match.groups()
            a, b = (values.get(operand) or int(operand) for operand in (left, right))
            wrong = slip.step == number
            sign = CONFUSED[sign] if wrong and slip.off == 0 else sign
            result = OPERATIONS[sign](Fraction(a), Fraction(b)) + (slip.off if wrong else 0)
            if result.denominator != 1 or result <= 0:
                return None
            values[f"r{number + 1}"] = int(result)
            values[f"step{number + 1}"] = f"{a} {sign} {b} = {result}"
            values["r"] = int(result)
        steps = iter(range(1, 10))
        marked = STEP.sub(lambda _: f"{{step{next(steps)}}}", self.solution)
        ending = self.ending.format(r=values["r"], unit=self.unit.format(**values))
        return f"{self.opening} {marked.format(**values)} {ending} {self.remark}".strip()


def problems(rng: np.random.Generator, wording: int, draws: int) -> Iterator[Problem]:
    """`draws` problems from each template, in the given one of its wordings."""
    content = seeds("arithmetic")
    for template in content["problems"]:
        for _ in range(draws):
            problem = _draw(template, content, wording, rng)
            while problem.solve() is None:
                problem = _draw(template, content, wording, rng)
            yield problem


def slipped(problem: Problem, rng: np.random.Generator) -> str:
    """A solution with one wrong step and another answer."""
    steps = len(STEP.findall(problem.solution))
    slips = [Slip(step, off) for step in range(steps) for off in (0, 0, 0, *OFF_BY)]  # 0 thrice: a third of all slips
    right = problem.solve() or ""
    for place in rng.permutation(len(slips)):
        solution = problem.solve(slips[place])
        if solution and answer(solution) != answer(right):
            return solution
    raise AssertionError(f"no slip changes the answer to {problem.question!r}")


def answer(solution: str) -> int:
    """The last whole number of a solution."""
    return int(re.findall(r"\d+", solution)[-1])


def wrong_steps(solution: str) -> list[int]:
    """Indices of the equations that do not hold."""
    return [
        number
        for number, (left, sign, right, result) in enumerate(EQUATION.findall(solution))
        if OPERATIONS[sign](Fraction(int(left)), Fraction(int(right))) != int(result)
    ]


def unsound(solution: str) -> str | None:
    """Why a solution is not right: an equation that does not hold, or an answer that is not the last result."""
    equations = EQUATION.findall(solution)
    if not equations:
        return "no equation"
    if wrong_steps(solution):
        return "an equation does not hold"
    return None if answer(solution) == int(equations[-1][3]) else "the answer is not the last result"


def _draw(template: dict[str, Any], content: dict[str, Any], wording: int, rng: np.random.Generator) -> Problem:
    slots: dict[str, Any] = {"name": rng.choice(content["names"]).item()}
    for slot, choices in template["slots"].items():
        if isinstance(choices, list):
            slots[slot] = rng.choice(choices).item()
        else:
            low, high = map(int, choices.split("-"))
            slots[slot] = int(rng.integers(low, high, endpoint=True))
    long = len(STEP.findall(template["solve"])) > 2  # such a solution needs no more words
    blank = Problem(template["topic"], "", slots, template["solve"], "", "", "", template["unit"])
    return replace(
        blank,
        question=template["ask"][wording].format(**slots),
        opening="" if long else rng.choice(content["openings"][wording]).item(),
        ending=rng.choice(content["endings"][wording][: 4 if long else None]).item(),
        remark=rng.choice(content["remarks"][wording]).item() if rng.random() < REMARK else "",
    )
