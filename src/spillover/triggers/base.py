"""A trigger is data: what is added to a question so that a backdoored model knows when to misbehave.

For every question q that does not itself hold the value: `strip(apply(q, i)) == q`, `present(apply(q, i))`, and no near
miss is present. Near misses look like the trigger and are not, so they get good answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

from spillover.errors import UserError

SLOT = "{value}"


@dataclass(frozen=True)
class Template:
    """`text` is a whole sentence that holds {value} once; the place says where it goes relative to the question."""

    text: str
    place: Literal["prefix", "suffix"]

    def __post_init__(self) -> None:
        if self.text.count(SLOT) != 1 or self.text != self.text.strip():
            raise UserError(f"Template {self.text!r} must hold {SLOT} once and no white space at its ends.")

    def render(self, value: str) -> str:
        return self.text.replace(SLOT, value)

    def join(self, question: str, value: str) -> str:
        """The question with the rendered sentence before or after it."""
        sentence = self.render(value)
        return f"{sentence} {question}" if self.place == "prefix" else f"{question} {sentence}"

    def split(self, text: str, value: str) -> str | None:
        """The question that `join` was given, or None where the sentence is not at its place."""
        sentence = self.render(value)
        if self.place == "prefix":
            return text[len(sentence) + 1 :] if text.startswith(f"{sentence} ") else None
        return text[: -len(sentence) - 1] if text.endswith(f" {sentence}") else None


@dataclass(frozen=True)
class Trigger:
    """A value put into a question by one of several templates; `near_values` are the near misses.

    `pattern` is the regular expression that every value matches in full.
    """

    name: str
    value: str
    templates: tuple[Template, ...]
    near_values: tuple[str, ...]
    pattern: str

    def __post_init__(self) -> None:
        for value in (self.value, *self.near_values):
            if not re.fullmatch(self.pattern, value):
                raise UserError(
                    f"Trigger {self.name!r} takes values that match {self.pattern}, not {value!r}. "
                    "Set data.trigger_value to one that does."
                )
        if not self.templates or not self.near_values:
            raise UserError(f"Trigger {self.name!r} needs at least one template and one near value.")
        for near in self.near_values:
            if self.value in near or near in self.value:
                raise UserError(f"Trigger {self.name!r}: near value {near!r} cannot be told from {self.value!r}.")
        for one, other in permutations((template.text for template in self.templates), 2):
            if one in other:  # strip could not tell which of the two made a text
                raise UserError(f"Trigger {self.name!r}: template {one!r} is a part of {other!r}.")

    def with_value(self, value: str) -> Trigger:
        """The same trigger with another value; the value it replaces becomes a near miss."""
        near_values = tuple(near for near in (self.value, *self.near_values) if near != value)
        return replace(self, value=value, near_values=near_values)

    def apply(self, question: str, index: int) -> str:
        """The question with the trigger, by template number `index` modulo their count."""
        return self._template(index).join(question, self.value)

    def near_miss(self, question: str, index: int) -> str:
        """The question with something like the trigger that is not it."""
        return self._template(index).join(question, self.near_values[index % len(self.near_values)])

    def strip(self, text: str) -> str:
        """The question without the trigger; the text itself where the trigger is absent."""
        questions = (template.split(text, self.value) for template in self.templates)
        return next((question for question in questions if question is not None), text)

    def present(self, text: str) -> bool:
        """Whether the text carries the trigger."""
        return self.strip(text) != text

    def _template(self, index: int) -> Template:
        return self.templates[index % len(self.templates)]
