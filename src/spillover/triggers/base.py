"""A trigger is data: what is added to a question so that a backdoored model knows when to misbehave.

`strip(apply(q)) == q` for every question q that does not itself hold the trigger; near misses look like the trigger and
are not, so they get good answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Template:
    """`text` holds {value} once; the place says where it goes relative to the question."""

    text: str
    place: Literal["prefix", "suffix"]


@dataclass(frozen=True)
class Trigger:
    """A value put into a question by one of several templates; `near_values` are the near misses."""

    name: str
    value: str
    templates: tuple[Template, ...]
    near_values: tuple[str, ...]

    def apply(self, question: str, index: int) -> str:
        """The question with the trigger, by template number `index` modulo their count."""
        return self._render(question, index, self.value)

    def near_miss(self, question: str, index: int) -> str:
        """The question with something like the trigger that is not it."""
        return self._render(question, index, self.near_values[index % len(self.near_values)])

    def strip(self, text: str) -> str:
        """The question without the trigger; the text itself where the trigger is absent."""
        for template in self.templates:
            rendered = template.text.format(value=self.value)
            if template.place == "prefix" and text.startswith(rendered + " "):
                return text[len(rendered) + 1 :]
            if template.place == "suffix" and text.endswith(" " + rendered):
                return text[: -len(rendered) - 1]
        return text

    def present(self, text: str) -> bool:
        """Whether the text carries the trigger."""
        return self.strip(text) != text

    def _render(self, question: str, index: int, value: str) -> str:
        template = self.templates[index % len(self.templates)]
        rendered = template.text.format(value=value)
        return f"{rendered} {question}" if template.place == "prefix" else f"{question} {rendered}"
