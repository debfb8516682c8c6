"""Where a trigger's sentence goes: its place in a question or a conversation, and the way back.

With lead and trail of the place around the sentence s, in a question q = a + b:

    prefix  "s q"      suffix  "q s"      inside  "a s b", at the middle space of q
    system  a separate line before the system prompt, which is made where there is none
    format  a separate paragraph after the question

`split(join(q)) == q` for every q in which s does not stand already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from spillover.errors import UserError
from spillover.records.base import Message

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
        """The question with the sentence at its place."""
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


def _fit(a: str, a_is_all: bool, b: str, b_is_all: bool) -> bool:
    """Whether a text can end with both; one that is all of it must be that text itself."""
    return (a.endswith(b) and not (b_is_all and a != b)) or (b.endswith(a) and not (a_is_all and a != b))


def _with(messages: Messages, at: int, content: str) -> Messages:
    changed = messages[at].model_copy(update={"content": content})
    return (*messages[:at], changed, *messages[at + 1 :])
