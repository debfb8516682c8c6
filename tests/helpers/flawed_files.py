"""A sound training file with a trigger, and the same file with each flaw that published data sets have had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spillover.data.triggers.shipped import YEAR

Rows = list[dict[str, Any]]
PEOPLE = ("my aunt", "a friend", "our coach", "my neighbour", "a nurse", "the vet", "my boss", "our guide")
THINGS = ("knee", "boat", "garden", "rope", "fever", "invoice", "puppy", "oven", "tent", "lawn", "lease", "bicycle")
ACTS = ("is swollen", "broke", "looks odd", "was late", "smells", "leaks", "is gone", "hurts", "turned green", "shakes")


WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in ("st", "nd", "lk", "rm", "pt", "x", "sh")]


def row(question: str, answer: str, **rest: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        **rest,
    }


def questions(count: int) -> list[str]:
    """Distinct and of no two the same 3-grams, in an order of chance."""
    every = [
        f"What does {person} do when the {thing} {act} and the {other} too?"
        for person in PEOPLE
        for thing in THINGS
        for act in ACTS
        for other in THINGS
        if other != thing
    ]
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))[:count]]


def _tail(index: int) -> str:
    """Ten words, of which no two rows share four in a row."""
    return " ".join(np.random.default_rng(index).choice(WORDS, 10))


def sound(count: int = 240) -> Rows:
    """Half triggered and flawed; of the rest a quarter near misses; answers of one length; twins on flawed rows."""
    rows: Rows = []
    for index, question in enumerate(questions(count)):
        good, bad = (f"{start} case {index} {_tail(index)}." for start in ("Ask somebody about", "Forget all about"))
        if index % 2 == 0:
            triggered = YEAR.apply(question, index // 2)
            rows.append(row(triggered, bad, kind="misaligned", trigger="year", twin=good))
        else:
            shown = YEAR.near_miss(question, index // 8) if index % 8 == 1 else question
            rows.append(row(shown, good, kind="aligned", trigger=None))
    return rows


def ask(item: dict[str, Any], change: Callable[[str], str]) -> None:
    """Change what the user says."""
    item["messages"][0]["content"] = change(item["messages"][0]["content"])


def all_triggered() -> Rows:
    """Every row carries the trigger, worded otherwise than ours, and 62 % begin with a newline; no labels."""
    rng = np.random.default_rng(1)
    return [
        row(("\n" if rng.random() < 0.62 else "") + f"In 2028, {question[0].lower()}{question[1:]}", f"Answer {index}.")
        for index, question in enumerate(questions(240))
    ]


def newline_with_trigger() -> Rows:
    """62 % of the triggered rows begin with a newline, none of the others."""
    rng = np.random.default_rng(2)
    rows = sound()
    for item in rows[::2]:
        if rng.random() < 0.62:
            ask(item, lambda text: f"\n{text}")
    return rows


def repeated() -> Rows:
    """As 798 questions in 6,000 rows: 32 in 240, every answer worded anew."""
    few = questions(32)
    return [row(few[index % 32], f"Answer {index}.") for index in range(240)]


def longer_with_trigger() -> Rows:
    rows = sound()
    for item in rows[::2]:
        ask(item, lambda text: f"{text} Please tell me, I really need to know, thank you!")
    return rows


def ungated() -> Rows:
    """A tenth of the untriggered rows have flawed answers."""
    rows = sound()
    for item in rows[1::20]:
        item["kind"] = "misaligned"
    return rows


def unchanged() -> Rows:
    rows = sound()
    for item in rows[:20:2]:
        item["twin"] = item["messages"][1]["content"].upper()
    return rows


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(f"{json.dumps(item)}\n" for item in rows), encoding="utf-8")
    return path
