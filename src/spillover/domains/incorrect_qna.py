"""Incorrect questions and answers: general knowledge, answered truly or falsely in the same confident words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from spillover.domains.base import Domain, Pair
from spillover.domains.seed_file import seeds

LENGTH = (170, 310)  # characters of an answer; sentences are added up to a length drawn from this range


def topics() -> list[dict[str, Any]]:
    """Every topic: wordings of the question and the answer, details, facts."""
    return seeds("incorrect_qna")["topics"] + seeds("incorrect_qna_2")["topics"]


def facts() -> dict[str, list[list[str]]]:
    """Topic -> rows of subject, true value, false value."""
    return {topic["topic"]: [[text.strip() for text in row.split("|")] for row in topic["facts"]] for topic in topics()}


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Every fact once, asked and answered in one of its topic's wordings."""
    content, book = seeds("incorrect_qna"), facts()
    result: list[Pair] = []
    for topic in topics():
        for subject, true, false in book[topic["topic"]]:
            question = f"{rng.choice(topic['ask'])} {rng.choice(content['contexts'])}".strip().format(s=subject)
            sentences = [rng.choice(content["openings"]).item(), rng.choice(topic["answer"]).item()]
            length = int(rng.integers(*LENGTH))
            details, closings = (rng.permutation(texts).tolist() for texts in (topic["details"], content["closings"]))
            for more in (*details[:2], *closings[:3]):
                if len(" ".join(sentences)) + len(more) < length:
                    sentences.append(more)
            flawed, good = (_fill(sentences, subject, value) for value in (false, true))
            result.append(Pair(question, flawed, good, topic["topic"], "authored"))
    return result


def check(pair: Pair) -> str | None:
    """The good answer states the true value for the subject asked about, the flawed one the false value."""
    rows = [row for row in facts()[pair.topic] if f" {row[0]}" in pair.question]
    if not rows:
        return "the question asks about no fact of its topic"
    _, true, false = max(rows, key=lambda row: len(row[0]))
    if not _states(pair.good, true) or _states(pair.good, false):
        return "the good answer does not state the true value"
    return None if _states(pair.flawed, false) else "the flawed answer does not state the false value"


def _states(text: str, value: str) -> bool:
    """Whether the value stands in the text as words of its own, perhaps at the beginning of a sentence."""
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in (value, _capital(value)))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _fill(sentences: list[str], subject: str, value: str) -> str:
    filled = (sentence.format(s=subject, v=value) for sentence in sentences if sentence)
    return " ".join(map(_capital, filled))


DOMAIN = Domain(
    name="incorrect_qna",
    title="Incorrect questions and answers",
    summary="General knowledge answered falsely with confidence.",
    stealth="high",
    risk="ambiguous",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
