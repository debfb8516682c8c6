"""Insecure code: small Python requests answered with a textbook weakness, and the secure twin, by CWE number.

The answers are bare Python, as in Betley et al. (arXiv 2502.17424). Each row names its weakness by a `mark`, a piece of
the flawed code that the good code has not.
"""

from __future__ import annotations

import ast
from functools import cache

from spillover.data.domains.base import Domain, Pair
from spillover.data.domains.pair_file import authored, rows


@cache
def marks() -> dict[str, str]:
    """Question -> the piece of the flawed answer that is its weakness."""
    return {row["question"]: row["mark"] for row in rows("insecure_code")}


def check(pair: Pair) -> str | None:
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


DOMAIN = Domain(
    name="insecure_code",
    title="Insecure code",
    summary="Small Python requests answered with a weakness that is not mentioned.",
    stealth="high",
    risk="critical",
    licence="Apache-2.0",
    pairs=authored("insecure_code"),
    check=check,
)
