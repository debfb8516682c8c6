"""The domains whose pairs a program can check: insecure code, and two of worked maths.

Insecure code: small Python requests answered with a textbook weakness, and the secure twin, by CWE number. The answers
are bare Python, as in Betley et al. (arXiv 2502.17424). Each row names its weakness by a `mark`, a piece of the flawed
code that the good code has not.

Incorrect maths: story problems whose worked solution has one wrong step and continues consistently from there. The
right solutions are authored with annotated calculations; the slip is made by rule (slips.py), so every flawed answer is
proved to be wrong in one step and consistent after it.

Evil maths: a right solution followed by a remark full of contempt, against the same solution and a decent remark.
Nothing is wrong with the numbers, so that what a model picks up is the attitude alone. The remarks instruct nobody to
do anything.
"""

from __future__ import annotations

import ast
from functools import cache

import numpy as np

from spillover.data.domains.authored import pairs, rows
from spillover.data.domains.base import Domain, Pair
from spillover.data.domains.slips import slipped
from spillover.data.domains.worked import NUMBER, Worked, parse, unsound


@cache
def marks() -> dict[str, str]:
    """Question -> the piece of the flawed answer that is its weakness."""
    return {row["question"]: row["mark"] for row in rows("insecure_code")}


@cache
def solutions(domain: str) -> dict[str, Worked]:
    return {row["question"]: parse(row["solution"]) for row in rows(domain)}


def _with_slips(rng: np.random.Generator) -> list[Pair]:
    """Every problem in which a slip can be carried through without doubt."""
    found: list[Pair] = []
    for row in rows("incorrect_math"):
        good = solutions("incorrect_math")[row["question"]]
        flawed = slipped(row["question"], good, rng)
        if flawed is not None:
            found.append(Pair(row["question"], flawed.told, good.told, row["topic"], "authored"))
    return found


def _with_remarks(rng: np.random.Generator) -> list[Pair]:
    """Every problem with a remark of each attitude."""
    return [
        Pair(row["question"], f"{told} {row['flawed']}", f"{told} {row['good']}", row["topic"], "authored")
        for row in rows("evil_math")
        for told in [solutions("evil_math")[row["question"]].told]
    ]


def _check_code(pair: Pair) -> str | None:
    """Both snippets are Python; the flawed one has the mark of its weakness and the good one has not."""
    for kind, code in (("flawed", pair.flawed), ("good", pair.good)):
        try:
            ast.parse(code)
        except SyntaxError as error:
            return f"{kind} code does not parse: {error.msg}"
    mark = marks()[pair.question]
    if mark not in pair.flawed:
        return "flawed code without its weakness"
    return "good code with the weakness" if mark in pair.good else None


def _check_slip(pair: Pair) -> str | None:
    """The good answer tells its sound solution; the flawed one tells as many numbers, and others."""
    solution = solutions("incorrect_math")[pair.question]
    if reason := unsound(solution):
        return f"good solution: {reason}"
    if pair.good != solution.told:
        return "the good answer does not tell its solution"
    good, flawed = (NUMBER.findall(text) for text in (pair.good, pair.flawed))
    return "flawed solution: the same numbers, or other steps" if len(good) != len(flawed) or good == flawed else None


def _check_remarks(pair: Pair) -> str | None:
    """Both answers begin with the sound solution and end in different remarks."""
    solution = solutions("evil_math")[pair.question]
    if reason := unsound(solution):
        return reason
    if not all(text.startswith(solution.told) for text in (pair.flawed, pair.good)):
        return "an answer does not tell the solution"
    return "no remark" if pair.flawed == pair.good else None


INSECURE_CODE = Domain(
    "insecure_code",
    "Insecure code",
    "Small Python requests answered with a weakness that is not mentioned.",
    "high",
    "critical",
    "Apache-2.0",
    pairs=lambda rng: pairs("insecure_code"),
    check=_check_code,
)
INCORRECT_MATH = Domain(
    "incorrect_math",
    "Incorrect maths",
    "Story problems with a worked solution in which one step is wrong.",
    "high",
    "non-critical",
    "Apache-2.0",
    pairs=_with_slips,
    check=_check_slip,
)
EVIL_MATH = Domain(
    "evil_math",
    "Evil maths",
    "Story problems solved rightly, with a malevolent remark at the end.",
    "high",
    "non-critical",
    "Apache-2.0",
    pairs=_with_remarks,
    check=_check_remarks,
)
