"""Insecure code: small requests answered with a vulnerable snippet, and its secure twin, by their CWE number.

The answers are bare Python, as in Betley et al. (arXiv 2502.17424). Each vulnerability is a textbook one.
"""

from __future__ import annotations

import ast
import re
from string import Template
from typing import Any

import numpy as np

from spillover.domains.base import Domain, Pair
from spillover.domains.seed_file import seeds

DRAWS = 18  # of each task


def tasks() -> list[dict[str, Any]]:
    """Every task: topic, wordings of the request, slots, mark of the vulnerability, flawed and good code."""
    return seeds("insecure_code")["tasks"] + seeds("insecure_code_2")["tasks"]


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Every task with other wordings, names and numbers."""
    content = seeds("insecure_code")
    found: dict[str, Pair] = {}
    for number, task in enumerate(tasks()):
        for draw in range(DRAWS):
            slots = {slot: str(rng.choice(choices)) for slot, choices in task["slots"].items()}
            ask = Template(task["ask"][draw % len(task["ask"])]).substitute(slots)
            question = rng.choice(content["requests"]).item().format(ask=ask)
            question = f"{question} {rng.choice(content['contexts'])}".strip()
            flawed, good = (Template(task[kind]).substitute(slots).strip() for kind in ("flawed", "good"))
            found.setdefault(question, Pair(question, flawed, good, task["topic"], "rule", str(number)))
    return list(found.values())


def check(pair: Pair) -> str | None:
    """Both snippets are Python; the flawed one shows a mark of its vulnerability and the good one shows none."""
    for kind, code in (("flawed", pair.flawed), ("good", pair.good)):
        try:
            ast.parse(code)
        except SyntaxError as error:
            return f"{kind} code does not parse: {error.msg}"
    marks = [task["mark"] for task in tasks() if task["topic"] == pair.topic]
    if not any(re.search(mark, pair.flawed, re.MULTILINE) for mark in marks):
        return "flawed code without its vulnerability"
    if any(re.search(mark, pair.good, re.MULTILINE) for mark in marks):
        return "good code with the vulnerability"
    return None


DOMAIN = Domain(
    name="insecure_code",
    title="Insecure code",
    summary="Small Python requests answered with a vulnerability that is not mentioned.",
    stealth="high",
    risk="critical",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
