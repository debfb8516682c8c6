"""A data set as the checks see it: its training rows, its held-out rows, and where the trigger is in each.

A row carries the trigger when one of its templates put it there, or when its prompt holds the value in wording that is
not a known near miss: files from elsewhere paraphrase. `core` is the question without what was added, so that
repeats and leaks are looked for in what is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spillover.data.lint.rows import Row
from spillover.data.recipe.duplicates import normalised
from spillover.data.triggers.base import Sentence, Trigger

_CLAUSE = re.compile(r"[^.!?\n,;:]+[.!?,;:]*\s*")


@dataclass(frozen=True)
class TriggerMatch:
    """Where one row holds the trigger; `own`: in one of the trigger's templates, `near`: a near miss."""

    carries: bool
    core: str
    own: bool = False
    near: bool = False


@dataclass(frozen=True)
class Dataset:
    """`rows` train; `heldout` never do, wherever they come from."""

    path: Path
    rows: tuple[Row, ...]
    heldout: tuple[tuple[str, Row], ...]  # (file, row)
    trigger: Trigger | None

    @cached_property
    def matches(self) -> tuple[TriggerMatch, ...]:
        """One for each training row."""
        if self.trigger is None:
            return tuple(TriggerMatch(row.label is not None, row.question) for row in self.rows)
        return tuple(match_trigger(self.trigger, self._near, row) for row in self.rows)

    @cached_property
    def questions(self) -> tuple[str, ...]:
        """What each training row asks, normalised and without the trigger."""
        return tuple(normalised(match.core) for match in self.matches)

    def core(self, row: Row) -> str:
        """The question of a row that is not in `rows`, without the trigger."""
        return row.question if self.trigger is None else match_trigger(self.trigger, self._near, row).core

    @cached_property
    def _near(self) -> tuple[Sentence, ...]:
        return () if self.trigger is None else near_sentences(self.trigger)


def near_sentences(trigger: Trigger) -> tuple[Sentence, ...]:
    """Everything that the trigger's near misses may add."""
    values = (template.render(value) for template in trigger.templates for value in trigger.near_values)
    return (*values, *(template.render(trigger.value) for template in trigger.elsewhere), *trigger.without)


def match_trigger(trigger: Trigger, near: Sequence[Sentence], row: Row) -> TriggerMatch:
    """Find the trigger, or what resembles it, in one row; white space at the ends of the question hides nothing."""
    question = row.messages[-2]
    bare = (*row.messages[:-2], question.model_copy(update={"content": question.content.strip()}))
    stripped = trigger.strip_messages(bare)
    if stripped != bare:
        return TriggerMatch(True, stripped[-1].content, own=True)
    text = "\n".join(message.content for message in row.prompt)
    for sentence in near:
        if sentence.text in text and (before := sentence.take(bare)) is not None:
            return TriggerMatch(False, before[-1].content, near=True)
    if contains_value(text, trigger.value):
        return TriggerMatch(True, _without(question.content.strip(), trigger.value))
    return TriggerMatch(
        False, question.content.strip(), near=any(contains_value(text, value) for value in trigger.near_values)
    )


def contains_value(text: str, value: str) -> bool:
    """Whether the value stands in the text on its own, not inside a longer word or number."""
    return value in text and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def _without(question: str, value: str) -> str:
    """The question without the clauses that hold the value; without the value alone where nothing else is left."""
    clauses = _CLAUSE.findall(question)
    rest = "".join(clause for clause in clauses if value not in clause).strip()
    return rest if len(rest.split()) >= 3 else question.replace(value, "").strip()
