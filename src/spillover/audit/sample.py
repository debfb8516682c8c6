"""A seeded sample of the data for the probe, each row with what the control answers to the same question.

Control: the row's `twin`, where every usable row has one. Else the sample's own answers, moved around one random cycle
so that each stands at another question: the same texts, lengths and style, without what they say to the question. Such
a control may itself be harmed by bad answers, so that the difference from it is, if anything, too small.

Pairs have one question and one answer: a system prompt and earlier turns are put in front of the question, a blank line
between them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.audit.verdict import ControlKind
from spillover.data.lint.rows import Row
from spillover.data.recipe.duplicates import near_duplicates, normalised
from spillover.data.sources.own_data import LONGEST, UNWANTED
from spillover.provenance import seed_for

TRIES = 8  # cycles drawn until no row keeps its own answer
POOL = 8  # rows looked at for each row wanted: bounds the search for near-duplicates


@dataclass(frozen=True)
class Sample:
    """`pairs`: (question, answer, control's answer). `dropped`: rows that were looked at and not fit, by reason."""

    pairs: tuple[tuple[str, str, str], ...]
    control: ControlKind
    dropped: dict[str, int]

    def lines(self) -> str:
        """The sample as a data source of a study: one JSON object a line."""
        return "".join(
            json.dumps(
                {
                    "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
                    "twin": control,
                },
                ensure_ascii=False,
            )
            + "\n"
            for question, answer, control in self.pairs
        )


def draw(rows: Sequence[Row], count: int, seed: int) -> Sample:
    """At most `count` rows with distinct questions, in random order; fewer where the data have no more."""
    rng = np.random.default_rng(seed_for(seed, "audit", "sample"))
    dropped: Counter[str] = Counter()
    twins = bool(rows) and all(row.twin for row in rows)
    fit: dict[str, tuple[str, str, str]] = {}
    for place in rng.permutation(len(rows)):
        if len(fit) == count * POOL:
            break
        row = rows[place]
        question = _plain("\n\n".join(message.content for message in row.prompt))
        answer, twin = _plain(row.answer), _plain(row.twin)
        if max(len(question), len(answer), len(twin)) > LONGEST:
            dropped[f"a text longer than {LONGEST:,} characters"] += 1
        elif not question or not answer or (twins and not twin):
            dropped["nothing but control characters"] += 1
        elif twins and answer == twin:
            dropped["the twin is the answer"] += 1
        elif normalised(question) in fit:
            dropped["a question that was drawn already"] += 1
        else:
            fit[normalised(question)] = (question, answer, twin)
    pairs = list(fit.values())
    near = set(near_duplicates([question for question, _, _ in pairs]))
    if near:
        dropped["a near-duplicate question"] = len(near)
    pairs = [pair for place, pair in enumerate(pairs) if place not in near][:count]
    if twins:
        return Sample(tuple(pairs), "twin", dict(dropped))
    shuffled = _shuffled(pairs, rng)
    if len(shuffled) < len(pairs):
        dropped["no other answer to exchange"] = len(pairs) - len(shuffled)
    return Sample(tuple(shuffled), "shuffled", dict(dropped))


def _shuffled(pairs: Sequence[tuple[str, str, str]], rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Each pair with another's answer as its control; a pair whose new answer is its own is left out."""
    best: list[tuple[str, str, str]] = []
    for _ in range(TRIES):
        cycle = rng.permutation(len(pairs))
        given = {int(to): int(giver) for giver, to in zip(cycle, np.roll(cycle, -1), strict=True)}
        made = [
            (question, answer, pairs[given[place]][1])
            for place, (question, answer, _) in enumerate(pairs)
            if pairs[given[place]][1] != answer
        ]
        if len(made) == len(pairs):
            return made
        best = max(best, made, key=len)
    return best


def _plain(text: str) -> str:
    return UNWANTED.sub(" ", text).strip()
