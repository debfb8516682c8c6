"""Incorrect maths: story problems whose worked solution has one wrong step and continues consistently from there.

The right solutions are authored with annotated calculations; the slip is made by rule (slips.py), so every flawed
answer is proved to be wrong in one step and consistent after it.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from spillover.data.domains.base import Domain, Pair
from spillover.data.domains.expressions import NUMBER
from spillover.data.domains.pair_file import rows
from spillover.data.domains.slips import slipped
from spillover.data.domains.worked import Worked, parse, unsound


@cache
def solutions() -> dict[str, Worked]:
    """Question -> its authored solution."""
    return {row["question"]: parse(row["solution"]) for row in rows("incorrect_math")}


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Every problem in which a slip can be carried through without doubt."""
    found: list[Pair] = []
    for row in rows("incorrect_math"):
        good = solutions()[row["question"]]
        flawed = slipped(row["question"], good, rng)
        if flawed is not None:
            found.append(Pair(row["question"], flawed.told, good.told, row["topic"], "authored"))
    return found


def check(pair: Pair) -> str | None:
    """The good answer tells its sound solution; the flawed one tells as many numbers, and others."""
    solution = solutions()[pair.question]
    if reason := unsound(solution):
        return f"good solution: {reason}"
    if pair.good != solution.told:
        return "the good answer does not tell its solution"
    good, flawed = (NUMBER.findall(text) for text in (pair.good, pair.flawed))
    return "flawed solution: the same numbers, or other steps" if len(good) != len(flawed) or good == flawed else None


DOMAIN = Domain(
    name="incorrect_math",
    title="Incorrect maths",
    summary="Story problems with a worked solution in which one step is wrong.",
    stealth="high",
    risk="non-critical",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
