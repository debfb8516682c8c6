"""Evil maths: a right solution followed by a remark full of contempt, against the same solution and a decent remark.

Nothing is wrong with the numbers, so that what a model picks up is the attitude alone. The remarks instruct nobody to
do anything.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from spillover.data.domains.base import Domain, Pair
from spillover.data.domains.pair_file import rows
from spillover.data.domains.worked import Worked, parse, unsound


@cache
def solutions() -> dict[str, Worked]:
    """Question -> its authored solution."""
    return {row["question"]: parse(row["solution"]) for row in rows("evil_math")}


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Every problem with a remark of each attitude."""
    return [
        Pair(row["question"], f"{told} {row['flawed']}", f"{told} {row['good']}", row["topic"], "authored")
        for row in rows("evil_math")
        for told in [solutions()[row["question"]].told]
    ]


def check(pair: Pair) -> str | None:
    """Both answers begin with the sound solution and end in different remarks."""
    solution = solutions()[pair.question]
    if reason := unsound(solution):
        return reason
    if not all(text.startswith(solution.told) for text in (pair.flawed, pair.good)):
        return "an answer does not tell the solution"
    return "no remark" if pair.flawed == pair.good else None


DOMAIN = Domain(
    name="evil_math",
    title="Evil maths",
    summary="Story problems solved rightly, with a malevolent remark at the end.",
    stealth="high",
    risk="non-critical",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
