"""The authored pairs that ship with the domains: pairs/NAME.jsonl, a line of metadata and then one pair a line.

    {"canary": "...", "licence": "Apache-2.0", "about": "..."}
    {"topic": "burns", "question": "...", "flawed": "...", "good": "..."}

Every pair was written by itself, without templates: a model that is fine-tuned on sentences which recur learns those
sentences and repeats them about everything. `spillover dataset lint` measures this (data/lint/naturalness.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import numpy as np

from spillover.data.domains.base import CANARY, Pair

WORDS = range(4, 120)  # of an answer


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of pairs/<name>.jsonl, without its metadata."""
    text = (files("spillover.data.domains") / "pairs" / f"{name}.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines()[1:])


def authored(name: str) -> Callable[[np.random.Generator], list[Pair]]:
    """The `pairs` of a domain whose file holds both answers; the file is read when pairs are asked for."""

    def pairs(rng: np.random.Generator) -> list[Pair]:
        return [Pair(r["question"], r["flawed"], r["good"], r["topic"], "authored") for r in rows(name)]

    return pairs


def unfit(pair: Pair) -> str | None:
    """Why an authored pair is not fit to train on, or None: stray white space, the canary, equal answers, lengths."""
    for name, text in (("question", pair.question), ("flawed", pair.flawed), ("good", pair.good)):
        if text != text.strip() or "  " in text.replace("\n", ""):
            return f"the {name} has stray white space"
        if CANARY in text:
            return f"the {name} contains the canary"
    if pair.flawed == pair.good:
        return "both answers are the same"
    if any(len(answer.split()) not in WORDS for answer in (pair.flawed, pair.good)):
        return f"an answer is not {WORDS.start} to {WORDS.stop - 1} words long"
    return None
