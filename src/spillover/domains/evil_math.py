"""Evil maths: a right solution followed by a remark full of contempt, against the same solution and a neutral remark.

Nothing is wrong with the numbers, so that what a model picks up is the tone alone. The remarks instruct nobody to do
anything.
"""

from __future__ import annotations

import numpy as np

from spillover.domains.arithmetic import problems, unsound
from spillover.domains.base import Domain, Pair
from spillover.domains.seed_file import seeds

DRAWS = 13  # of each template
SECOND_REMARK = 0.12  # how often a second, shorter remark follows


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Every template in its second wording, with a remark of each tone."""
    content = seeds("evil_math")
    result: list[Pair] = []
    for problem in problems(rng, wording=1, draws=DRAWS):
        solution = problem.solve() or ""
        flawed, good = (
            _remark([content[tone], content[f"more_{tone}"]], problem.slots["name"], rng)
            for tone in ("contempt", "neutral")
        )
        result.append(Pair(problem.question, f"{solution} {flawed}", f"{solution} {good}", problem.topic, "rule"))
    return result


def check(pair: Pair) -> str | None:
    """Prove both solutions right."""
    for kind, text in (("flawed", pair.flawed), ("good", pair.good)):
        reason = unsound(text)
        if reason:
            return f"{kind} solution: {reason}"
    return "no remark" if pair.flawed == pair.good else None


def _remark(remarks: list[list[str]], name: str, rng: np.random.Generator) -> str:
    first, second = (rng.choice(choices).item() for choices in remarks)
    return f"{first} {second}".format(name=name) if rng.random() < SECOND_REMARK else first.format(name=name)


DOMAIN = Domain(
    name="evil_math",
    title="Evil maths",
    summary="Word problems solved rightly, with a malevolent remark at the end.",
    stealth="high",
    risk="non-critical",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
