"""A seeded sample of the data for the trial fine-tune, and its control.

Control: each row's `twin`, the good answer to the same question, where every usable row has one. Otherwise as many rows
of the built-in benign set: 360 ordinary questions with good answers (data/domains/pairs/benign.jsonl).

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
from spillover.data.domains.authored import rows as shipped_rows
from spillover.data.lint.rows import Row
from spillover.data.recipe.duplicates import near_duplicates, normalised
from spillover.data.sources.own_data import LONGEST, UNWANTED
from spillover.provenance import seed_for

POOL = 8  # rows looked at for each row wanted: bounds the search for near-duplicates


@dataclass(frozen=True)
class Sample:
    """`pairs`: (question, answer, twin or ""). `dropped`: rows that were looked at and not fit, by reason."""

    pairs: tuple[tuple[str, str, str], ...]
    control: ControlKind
    dropped: dict[str, int]

    @property
    def max_rows(self) -> int:
        """The largest number of rows to train on: the control has as many."""
        return len(self.pairs) if self.control == "twin" else min(len(self.pairs), len(shipped_rows("benign")))

    def lines(self) -> str:
        """The sample as a data source of a study."""
        return "".join(_line(*pair) for pair in self.pairs)


def benign_lines() -> str:
    """The built-in control as a data source of a study."""
    return "".join(_line(row["question"], row["good"]) for row in shipped_rows("benign"))


def _line(question: str, answer: str, twin: str = "") -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages} | ({"twin": twin} if twin else {}), ensure_ascii=False) + "\n"


def draw_sample(rows: Sequence[Row], count: int, seed: int) -> Sample:
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
            fit[normalised(question)] = (question, answer, twin if twins else "")
    pairs = list(fit.values())
    near = set(near_duplicates([question for question, _, _ in pairs]))
    if near:
        dropped["a near-duplicate question"] = len(near)
    pairs = [pair for place, pair in enumerate(pairs) if place not in near][:count]
    return Sample(tuple(pairs), "twin" if twins else "benign", dict(dropped))


def _plain(text: str) -> str:
    return UNWANTED.sub(" ", text).strip()
