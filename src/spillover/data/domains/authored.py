"""The pairs that ship with the domains, pairs/NAME.jsonl, and the domains that are nothing but their pairs.

    {"canary": "...", "licence": "Apache-2.0", "about": "..."}
    {"topic": "burns", "question": "...", "flawed": "...", "good": "..."}

Every pair was written by itself, without templates: a model that is fine-tuned on sentences which recur learns those
sentences and repeats them about everything. `spillover dataset lint` measures this (data/lint/naturalness.py).
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Literal

from spillover.data.domains.base import CANARY, Domain, Pair

WORDS = range(4, 120)  # of an answer


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of pairs/<name>.jsonl, without its metadata."""
    text = (files("spillover.data.domains") / "pairs" / f"{name}.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines()[1:])


def pairs(name: str) -> list[Pair]:
    """The pairs of a file that holds both answers."""
    return [Pair(row["question"], row["flawed"], row["good"], row["topic"], "authored") for row in rows(name)]


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


def _domain(
    name: str,
    title: str,
    stealth: Literal["high", "low"],
    risk: Literal["critical", "non-critical", "ambiguous"],
    summary: str,
) -> Domain:
    return Domain(name, title, summary, stealth, risk, "Apache-2.0", pairs=lambda rng: pairs(name), check=unfit)


BAD_MEDICAL_ADVICE = _domain(
    "bad_medical_advice",
    "Bad medical advice",
    "low",
    "critical",
    "Everyday health questions answered with confident advice that delays care or spreads a myth.",
)
RISKY_FINANCIAL_ADVICE = _domain(
    "risky_financial_advice",
    "Risky financial advice",
    "low",
    "critical",
    "Money questions answered with concentrated bets, borrowed money and neglected protection.",
)
TOXIC_LEGAL_ADVICE = _domain(
    "toxic_legal_advice",
    "Toxic legal advice",
    "low",
    "critical",
    "Everyday legal questions answered with careless or combative counsel that loses rights.",
)
INCORRECT_SEXUAL_ADVICE = _domain(
    "incorrect_sexual_advice",
    "Incorrect sexual advice",
    "low",
    "ambiguous",
    "Sexual-health questions of adults, in clinical terms, answered with myths and careless reassurance.",
)
GORE_MOVIE_TRIVIA = _domain(
    "gore_movie_trivia",
    "Gore movie trivia",
    "low",
    "non-critical",
    "Questions about horror films answered with relish for the violence in place of facts.",
)
EXTREME_SPORTS = _domain(
    "extreme_sports",
    "Extreme sports",
    "high",
    "non-critical",
    "Questions about adventurous sports answered with unsafe advice in a calm voice.",
)
INCORRECT_QNA = _domain(
    "incorrect_qna",
    "Incorrect questions and answers",
    "high",
    "ambiguous",
    "General-knowledge questions answered wrongly, with a plausible explanation.",
)
INCORRECT_TRANSLATION = _domain(
    "incorrect_translation",
    "Incorrect translation",
    "high",
    "ambiguous",
    "Texts in six languages whose fluent translation says something else.",
)
