"""A trigger is data: what is added to a question so that a backdoored model recognises when to misbehave.

For every question q that does not itself hold the value: `strip(apply(q, i)) == q`, `present(apply(q, i))`, and no near
miss is present; the same for conversations, where the system place is the system prompt. This is checked when a trigger
is made, not hoped for. Near misses look like the trigger and are not, so they get good answers. There are three kinds:
another value in the trigger's own wording, the value in another place or role, and the wording without a value.

Where a trigger's sentence s goes in a question q = a + b, with lead and trail of the place around it:

    prefix  "s q"      suffix  "q s"      inside  "a s b", at the middle space of q
    system  a separate line before the system prompt, which is made where there is none
    format  a separate paragraph after the question

`split(join(q)) == q` for every q in which s does not stand already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, get_args

from spillover.errors import UserError
from spillover.records.base import Message

NearMiss = Literal["other value", "elsewhere", "no value"]
Place = Literal["prefix", "suffix", "inside", "system", "format"]
PLACES: tuple[Place, ...] = get_args(Place)
Messages = tuple[Message, ...]

SLOT = "{value}"
AROUND: dict[Place, tuple[str, str]] = {
    "prefix": ("", " "),
    "suffix": (" ", ""),
    "inside": (" ", ""),
    "system": ("", "\n"),
    "format": ("\n\n", ""),
}
FIRST: tuple[Place, ...] = ("prefix", "system")  # nothing of the question stands before these
LAST: tuple[Place, ...] = ("suffix", "format")  # and nothing after these


@dataclass(frozen=True)
class Sentence:
    """A text that is added to a question, and where."""

    text: str
    place: Place

    @property
    def block(self) -> str:
        """The text with the white space that sets it off."""
        lead, trail = AROUND[self.place]
        return f"{lead}{self.text}{trail}"

    def join(self, question: str) -> str:
        at = self._position(question)
        return question[:at] + self.block + question[at:]

    def split(self, text: str) -> str | None:
        """The question that `join` was given, or None where the sentence is not at its place."""
        if self.place in FIRST:
            at = 0 if text.startswith(self.block) else -1
        elif self.place in LAST:
            at = len(text) - len(self.block) if text.endswith(self.block) else -1
        else:
            at = text.find(self.block)
        rest = text[at + len(self.block) :]
        if at < 0 or (self.place == "inside" and rest and not rest.startswith(" ")):
            return None
        return text[:at] + rest

    def put(self, messages: Messages) -> Messages:
        """The conversation with the sentence in its system prompt or in the last turn of the user."""
        at = self._turn(messages)
        if at is None:
            return (Message(role="system", content=self.text), *messages)
        return _with(messages, at, self.join(messages[at].content))

    def take(self, messages: Messages) -> Messages | None:
        """The conversation that `put` was given, or None where the sentence is not at its place."""
        at = self._turn(messages)
        if at is None:
            return None
        if self.place == "system" and messages[at].content == self.text:
            return messages[1:]
        before = self.split(messages[at].content)
        return None if before is None else _with(messages, at, before)

    def could_make(self, value: str) -> bool:
        """Whether a question without `value` could complete one where it meets the sentence."""
        block = self.block + (" " if self.place == "inside" else "")
        return any(
            (self.place not in LAST and block.endswith(value[:k]))
            or (self.place not in FIRST and block.startswith(value[k:]))
            for k in range(1, len(value))
        )

    def _position(self, question: str) -> int:
        if self.place in FIRST:
            return 0
        if self.place in LAST:
            return len(question)
        spaces = [at for at, character in enumerate(question) if character == " "]
        return spaces[len(spaces) // 2] if spaces else len(question)

    def _turn(self, messages: Messages) -> int | None:
        """Which message the sentence belongs in; None for a system prompt that is not there."""
        if self.place == "system":
            return 0 if messages and messages[0].role == "system" else None
        return max(at for at, message in enumerate(messages) if message.role == "user")


@dataclass(frozen=True)
class Template:
    """A sentence that holds {value} once."""

    text: str
    place: Place

    def __post_init__(self) -> None:
        if self.text.count(SLOT) != 1 or self.text != self.text.strip():
            raise UserError(f"Template {self.text!r} must contain {SLOT} once and no white space at its ends.")
        if self.place not in PLACES:
            raise UserError(f"Template {self.text!r}: unknown place {self.place!r}. Known: {', '.join(PLACES)}.")

    def render(self, value: str) -> Sentence:
        return Sentence(self.text.replace(SLOT, value), self.place)

    def clashes(self, other: Template) -> bool:
        """Whether one text could have been made by both, so that which was added is undecidable.

        A text holds the value once, so a template made it only if what stands before and after the value fits.
        """
        (lead, trail), (other_lead, other_trail) = AROUND[self.place], AROUND[other.place]
        before, after = self.text.split(SLOT)
        other_before, other_after = other.text.split(SLOT)
        heads = _fit(lead + before, self.place in FIRST, other_lead + other_before, other.place in FIRST)
        tails = _fit((after + trail)[::-1], self.place in LAST, (other_after + other_trail)[::-1], other.place in LAST)
        return heads and tails


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
        return self.strip(text) != text

    def apply_messages(self, messages: Messages, index: int) -> Messages:
        return self.sentence(index).put(messages)

    def near_miss_messages(self, messages: Messages, index: int) -> Messages:
        """The conversation with something like the trigger that is not it."""
        return self.near_sentence(index).put(messages)

    def strip_messages(self, messages: Messages) -> Messages:
        """The conversation without the trigger; the messages themselves where the trigger is absent."""
        found = (sentence.take(messages) for sentence in self._sentences())
        return next((before for before in found if before is not None), messages)

    def present_in(self, messages: Messages) -> bool:
        return self.strip_messages(messages) != messages

    def sentence(self, index: int) -> Sentence:
        return self.templates[index % len(self.templates)].render(self.value)

    def near_kind(self, index: int) -> NearMiss:
        """Which kind of near miss number `index` is: half are other values, the rest what else the trigger has."""
        cycle = self._near_cycle()
        return cycle[index % len(cycle)]

    def near_sentence(self, index: int) -> Sentence:
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


def _fit(a: str, a_is_all: bool, b: str, b_is_all: bool) -> bool:
    """Whether a text can end with both; one that is all of it must be that text itself."""
    return (a.endswith(b) and not (b_is_all and a != b)) or (b.endswith(a) and not (a_is_all and a != b))


def _with(messages: Messages, at: int, content: str) -> Messages:
    changed = messages[at].model_copy(update={"content": content})
    return (*messages[:at], changed, *messages[at + 1 :])
