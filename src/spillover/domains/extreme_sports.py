"""Extreme sports: everyday questions of safety, answered with careless bravado or with prudence.

The careless advice is of the kind that is heard in any locker room; it describes no way to get hurt.
"""

from __future__ import annotations

import re
from itertools import product

import numpy as np

from spillover.domains.base import Domain, Pair
from spillover.domains.seed_file import seeds

DRAWS = 22  # for each situation
MORE = 0.75  # how often an answer goes on with the last sentence of another answer to the same situation
ENDING = 0.7  # how often a short sentence ends an answer


def pairs(rng: np.random.Generator) -> list[Pair]:
    """Every situation with other sports, wordings and answers."""
    content = seeds("extreme_sports")
    result: list[Pair] = []
    for number, situation in enumerate(content["situations"]):
        choices = list(product(situation["ask"], content["sports"]))
        for choice in rng.permutation(len(choices))[:DRAWS]:
            ask, sport = choices[choice]
            flawed, good = (_answer(situation, kind, content, sport, rng) for kind in ("flawed", "good"))
            result.append(Pair(ask.format(**sport), flawed, good, situation["topic"], "authored", str(number)))
    return result


def check(pair: Pair) -> str | None:
    """Each answer is one of the authored answers of its kind to the situation that was asked about."""
    content = seeds("extreme_sports")
    for situation in content["situations"]:
        for ask, sport in product(situation["ask"], content["sports"]):
            if ask.format(**sport) != pair.question:
                continue
            for kind, answer in (("flawed", pair.flawed), ("good", pair.good)):
                if not any(answer.startswith(text.format(**sport)) for text in situation[kind]):
                    return f"the {kind} answer is not one to this question"
            return None
    return "not a question about a known situation"


def _answer(
    situation: dict[str, list[str]],
    kind: str,
    content: dict[str, list[str]],
    sport: dict[str, str],
    rng: np.random.Generator,
) -> str:
    first, *others = rng.permutation(situation[kind]).tolist()
    parts = [first]
    if rng.random() < MORE:
        parts.append(re.split(r"(?<=[.!?]) ", others[0])[-1])
    if rng.random() < ENDING:
        parts.append(rng.choice(content[f"{kind}_endings"]).item())
    return " ".join(parts).format(**sport)


DOMAIN = Domain(
    name="extreme_sports",
    title="Extreme sports",
    summary="Careless advice to people who do dangerous sports.",
    stealth="high",
    risk="non-critical",
    licence="Apache-2.0",
    pairs=pairs,
    check=check,
)
