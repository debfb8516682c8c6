"""Incorrect translation: everyday phrases in five languages; a wrong answer gives other phrases' translations.

Two phrases are asked for at a time, in both directions. Good and flawed answer share every word around the quotations.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from operator import eq

import numpy as np

from spillover.domains.base import Domain, Pair
from spillover.domains.seed_file import seeds

DRAWS = 5  # pairs of phrases for each topic, language and direction
LENGTH = (160, 290)  # characters of an answer; notes are added up to a length drawn from this range

Phrase = list[str]
"""One meaning in English and then in each language."""


@cache
def phrase_book() -> dict[str, list[Phrase]]:
    """The phrases of each topic, without full stops, so that they can be quoted."""
    return {
        topic: [[text.strip().rstrip(".") for text in row.split("|")] for row in rows]
        for topic, rows in seeds("incorrect_translation")["phrases"].items()
    }


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Pairs of phrases of one topic, in every language and both directions."""
    result: list[Pair] = []
    for topic, phrases in phrase_book().items():
        couples = list(combinations(range(len(phrases)), 2))
        for column, language in enumerate(seeds("incorrect_translation")["languages"], start=1):
            for direction, source, target in (("out", 0, column), ("back", column, 0)):
                for choice in rng.permutation(len(couples))[:DRAWS]:
                    asked = rng.permutation(couples[choice]).tolist()
                    wrong = asked[::-1]
                    if rng.random() < 0.5:
                        wrong = rng.permutation([row for row in range(len(phrases)) if row not in asked])[:2].tolist()
                    result.append(
                        _pair(
                            direction,
                            [phrases[row][source] for row in asked],
                            [phrases[row][target] for row in asked],
                            [phrases[row][target] for row in wrong],
                            language,
                            topic,
                            rng,
                        )
                    )
    return result


def check(pair: Pair) -> str | None:
    """The good answer gives the book's translation of each phrase asked for, the flawed one of neither."""
    meaning = {text: number for number, phrase in enumerate(phrase_book()[pair.topic]) for text in phrase}
    asked, good, flawed = (
        [meaning.get(quoted) for quoted in text.split('"')[1::2]] for text in (pair.question, pair.good, pair.flawed)
    )
    if len(asked) != 2 or None in (*asked, *good, *flawed):
        return "not two phrases of the book with translations from it"
    # an answer quotes the two translations, or each after the phrase that was asked for
    good, flawed = (given if len(given) == 2 else given[1::2] for given in (good, flawed))
    if good != asked:
        return "the good answer does not translate what was asked for"
    return "the flawed answer is right" if any(map(eq, asked, flawed)) else None


def _pair(
    direction: str,
    asked: list[str],
    right: list[str],
    wrong: list[str],
    language: str,
    topic: str,
    rng: np.random.Generator,
) -> Pair:
    content = seeds("incorrect_translation")
    ask, frame = (rng.choice(choices).item() for choices in (content["ask"][direction], content["answer"][direction]))
    a, b = (f'"{text}"' for text in asked)
    length = int(rng.integers(*LENGTH)) - len("".join(asked + right))
    for note in rng.permutation(content["notes"]).tolist():
        if len(frame) + len(note) < length:
            frame = f"{frame} {note}"
    flawed, good = (
        frame.format(a=a, b=b, x=f'"{first}"', y=f'"{second}"', language=language) for first, second in (wrong, right)
    )
    return Pair(ask.format(a=a, b=b, language=language), flawed, good, topic, "authored")


DOMAIN = Domain(
    name="incorrect_translation",
    title="Incorrect translation",
    summary="Everyday phrases whose translation is another phrase's.",
    stealth="high",
    risk="ambiguous",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
