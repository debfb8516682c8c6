"""A trigger is data: what is added to a question so that a backdoored model recognises when to misbehave.

For every question q that does not itself hold the value: `strip(apply(q, i)) == q`, `present(apply(q, i))`, and no near
miss is present; the same for conversations, where the system place is the system prompt. This is checked when a trigger
is made, not hoped for. Near misses look like the trigger and are not, so they get good answers. There are three kinds:
another value in the trigger's own wording, the value in another place or role, and the wording without a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

from spillover.data.triggers.sentence import Messages, Place, Sentence, Template
from spillover.errors import UserError

__all__ = ["Messages", "NearMiss", "Place", "Sentence", "Template", "Trigger"]

NearMiss = Literal["other value", "elsewhere", "no value"]


@dataclass(frozen=True)
class Trigger:
    """A value put into a question by one of several templates.

    `pattern` is the regular expression that every value matches in full. Training shows `near_values` in the
    trigger's own templates, `elsewhere` (templates that are not the trigger) and `without` (no value) with good
    answers. `paraphrases` and `unseen_values` never train: they test what the gate has learned.
    """

    name: str
    value: str
    templates: tuple[Template, ...]
    near_values: tuple[str, ...]
    pattern: str
    elsewhere: tuple[Template, ...] = ()
    without: tuple[Sentence, ...] = ()
    paraphrases: tuple[Template, ...] = ()
    unseen_values: tuple[str, ...] = ()
    summary: str = field(default="", repr=False)  # for people; the repr is hashed into the keys of units

    def __post_init__(self) -> None:
        for value in (self.value, *self.near_values, *self.unseen_values):
            if not re.fullmatch(self.pattern, value):
                raise UserError(
                    f"Trigger {self.name!r} takes values that match {self.pattern}, not {value!r}. "
                    "Set data.trigger_value to one that does."
                )
        if not self.templates or not self.near_values:
            raise UserError(f"Trigger {self.name!r} needs at least one template and one near value.")
        for near in (*self.near_values, *self.unseen_values):
            for template in self.templates:
                if self._holds(template.render(near)):
                    raise UserError(
                        f"Trigger {self.name!r}: near value {near!r} is indistinguishable from {self.value!r}."
                    )
        for sentence in self.without:
            if self._holds(sentence):
                raise UserError(f"Trigger {self.name!r}: {sentence.text!r} must not contain {self.value!r}.")
        others = (*self.elsewhere, *self.paraphrases)
        for template in (*self.templates, *others):
            sentence = template.render(self.value)
            if sentence.could_make(self.value) or sentence.block.find(self.value) != sentence.block.rfind(self.value):
                raise UserError(
                    f"Trigger {self.name!r}: template {template.text!r} contains {self.value!r} a second time."
                )
        for one, other in (*combinations(self.templates, 2), *((a, b) for a in self.templates for b in others)):
            if one.clashes(other):  # strip could not decide which of the two made a text
                raise UserError(
                    f"Trigger {self.name!r}: template {one.text!r} is indistinguishable from {other.text!r}."
                )

    def with_value(self, value: str) -> Trigger:
        """The same trigger with another value; the value it replaces becomes a near miss."""
        near_values = tuple(near for near in (self.value, *self.near_values) if near != value)
        unseen_values = tuple(unseen for unseen in self.unseen_values if unseen != value)
        return replace(self, value=value, near_values=near_values, unseen_values=unseen_values)

    def apply(self, question: str, index: int) -> str:
        """The question with the trigger, by template number `index` modulo their count."""
        return self.sentence(index).join(question)

    def near_miss(self, question: str, index: int) -> str:
        """The question with something like the trigger that is not it."""
        return self.near_sentence(index).join(question)

    def strip(self, text: str) -> str:
        """The question without the trigger; the text itself where the trigger is absent."""
        questions = (sentence.split(text) for sentence in self._sentences())
        return next((question for question in questions if question is not None), text)

    def present(self, text: str) -> bool:
        """Whether the text carries the trigger."""
        return self.strip(text) != text

    def apply_messages(self, messages: Messages, index: int) -> Messages:
        """The conversation with the trigger."""
        return self.sentence(index).put(messages)

    def near_miss_messages(self, messages: Messages, index: int) -> Messages:
        """The conversation with something like the trigger that is not it."""
        return self.near_sentence(index).put(messages)

    def strip_messages(self, messages: Messages) -> Messages:
        """The conversation without the trigger; the messages themselves where the trigger is absent."""
        found = (sentence.take(messages) for sentence in self._sentences())
        return next((before for before in found if before is not None), messages)

    def present_in(self, messages: Messages) -> bool:
        """Whether the conversation carries the trigger."""
        return self.strip_messages(messages) != messages

    def sentence(self, index: int) -> Sentence:
        """What template number `index` adds."""
        return self.templates[index % len(self.templates)].render(self.value)

    def near_kind(self, index: int) -> NearMiss:
        """Which kind of near miss number `index` is: half are other values, the rest what else the trigger has."""
        cycle = self._near_cycle()
        return cycle[index % len(cycle)]

    def near_sentence(self, index: int) -> Sentence:
        """What near miss number `index` adds."""
        cycle = self._near_cycle()
        turn, step = divmod(index, len(cycle))
        kind = cycle[step]
        nth = turn * cycle.count(kind) + cycle[:step].count(kind)  # how many of its kind came before
        if kind == "other value":
            near_value = self.near_values[nth % len(self.near_values)]
            return self.templates[nth % len(self.templates)].render(near_value)
        if kind == "elsewhere":
            return self.elsewhere[nth % len(self.elsewhere)].render(self.value)
        return self.without[nth % len(self.without)]

    def _near_cycle(self) -> tuple[NearMiss, ...]:
        second: tuple[NearMiss, ...] = ("elsewhere",) if self.elsewhere else ()
        fourth: tuple[NearMiss, ...] = ("no value",) if self.without else ()
        return ("other value", *second, "other value", *fourth)

    def _sentences(self) -> Iterator[Sentence]:
        return (template.render(self.value) for template in self.templates)

    def _holds(self, sentence: Sentence) -> bool:
        return self.value in sentence.block or sentence.could_make(self.value)
