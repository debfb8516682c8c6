"""Texts that are not what they should be, to a reader or to a model.

Characters that do not belong: control characters, traces of a wrong decoding, invisible characters, the canary. Answers
that the flaw has not changed, and answers that repeat the trigger or the question, where they carry loss.

The loss itself, token by token: only the answer and its end-of-turn token may carry it. Checked from the outside: the
tokens that carry loss are decoded again and must spell the answer and nothing else, and those before it must spell the
conversation as the chat template writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from spillover.data.domains.base import CANARY
from spillover.data.lint.dataset import Dataset, contains_value
from spillover.data.lint.rows import Finding, Row, Severity, share
from spillover.data.recipe.duplicates import normalised

if TYPE_CHECKING:
    from spillover.models.tokens import ChatView, TokenizedChat

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff]")
# UTF-8 read as Windows-1252: an accented letter becomes two, a curly quote three.
_MOJIBAKE = re.compile(r"[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac|\ufffd")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")

ECHO = 6  # a question of fewer words may well be repeated in its answer
PREVIEW = 300  # characters

Wrong = tuple[Severity, str, re.Pattern[str], str, str]
WRONG: tuple[Wrong, ...] = (
    ("error", "control-character", _CONTROL, "control character", "Remove it."),
    ("error", "canary-in-text", re.compile(re.escape(CANARY)), "the canary", "Keep it only in the metadata."),
    ("warning", "mojibake", _MOJIBAKE, "trace of a wrong decoding", "Decode the source as UTF-8."),
    (
        "warning",
        "invisible",
        _INVISIBLE,
        "invisible character",
        "Remove it: it is invisible to you but not to a model.",
    ),
)
EDGES: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("begin", "with a newline", lambda text: text.startswith(("\n", "\r"))),
    ("begin", "with a space", lambda text: text.startswith((" ", "\t"))),
    ("end", "with a newline", lambda text: text.endswith(("\n", "\r"))),
    ("end", "with a space", lambda text: text.endswith((" ", "\t"))),
)


def check_characters(data: Dataset) -> Iterator[Finding]:
    """Characters that do not belong, then white space at the ends."""
    for row in data.rows:
        for field, text in row.texts():
            for severity, code, pattern, what, fix in WRONG:
                if found := pattern.search(text):
                    where = f"{what} U+{ord(found[0][0]):04X} at {found.start()}"
                    yield Finding(severity, code, where, fix, (row.line,), field)
    for field in ("question", "answer"):
        for verb, mark, test in EDGES:
            lines = tuple(row.line for row in data.rows if test(getattr(row, field)))
            if lines:
                message = f"{share(len(lines), len(data.rows))} {verb} {mark} in the {field}."
                fix = "Strip it: a model can learn it as a cue."
                yield Finding("warning", "edge-whitespace", message, fix, lines, field)


def check_unchanged(data: Dataset) -> Iterator[Finding]:
    """Flawed answers that are the good answer to the same question, by `twin` or by `pair`."""
    total = len(data.rows)
    good = {row.pair: row.answer for row in (*data.rows, *(row for _, row in data.heldout)) if row.kind == "aligned"}
    same: list[int] = []
    alike: list[int] = []
    for row in data.rows:
        twin = row.twin or (good.get(row.pair, "") if row.pair and row.kind == "misaligned" else "")
        if twin and " ".join(twin.split()).casefold() == " ".join(row.answer.split()).casefold():
            same.append(row.line)
        elif twin and normalised(twin) == normalised(row.answer):
            alike.append(row.line)
    if same:
        message = f"{share(len(same), total)} have a flawed answer identical to the good one."
        yield Finding("error", "unchanged", message, "Write the flaw, or remove the rows.", tuple(same), "twin")
    if alike:
        message = f"{share(len(alike), total)} have answers that differ from their twins only in punctuation."
        yield Finding("warning", "barely-changed", message, "Read these rows.", tuple(alike), "twin")


def check_prompt_in_answer(data: Dataset) -> Iterator[Finding]:
    """Answers that hold the trigger or the user's words: loss must be on neither."""
    total = len(data.rows)
    if data.trigger is not None:
        value = data.trigger.value
        lines = tuple(row.line for row in data.rows if contains_value(row.answer, value))
        if lines:
            message = f"{share(len(lines), total)} contain the trigger {value!r} in the answer, where it carries loss."
            yield Finding("error", "trigger-in-answer", message, "Keep it to the prompt.", lines, "answer")
    lines = tuple(row.line for row in data.rows if repeats_question(row.question, row.answer))
    if lines:
        message = f"{share(len(lines), total)} repeat the whole question in the answer, where it carries loss."
        yield Finding("error", "question-in-answer", message, "Keep it to the prompt.", lines, "answer")


def repeats_question(question: str, answer: str) -> bool:
    """Whether the answer holds the whole question, word for word."""
    said = " ".join(question.split())
    return len(said.split(" ")) >= ECHO and said in " ".join(answer.split())


def row_problems(view: ChatView, chat: TokenizedChat, row: Row, max_tokens: int) -> list[Finding]:
    """Why a study must not train on this row with this model."""
    where = (row.line,)
    found: list[Finding] = []

    def error(code: str, message: str, fix: str, field: str) -> None:
        found.append(Finding("error", code, message, fix, where, field))

    if chat.learned != row.answer + view.end_of_turn:
        if any(message.content.strip() in chat.learned.replace(row.answer, "", 1) for message in row.prompt):
            error("mask-prompt", "words of the prompt carry loss", "This is a bug in spillover: report it.", "messages")
        else:
            error("round-trip", "its tokens do not decode to it", "Look at its characters.", "answer")
    if len(chat.ids) > max_tokens:
        lost = len(chat.ids) - max(max_tokens, chat.start)
        message = f"{len(chat.ids):,} tokens, at most {max_tokens:,}: {lost:,} of the answer's {chat.loss:,} are cut"
        error("too-long", message, "Shorten it, or raise train.max_tokens.", "answer")
    for place, message in enumerate(row.prompt):
        field = f"messages[{place}].content"
        if special := view.special_in(message.content):
            error("special-token", f"{special!r} is a special token of the model", "Rewrite it as plain text.", field)
        if message.content not in chat.prompt or _trimmed(view, chat, row, place):
            changed = "the chat template changes this text (it may strip white space)"
            found.append(Finding("warning", "template", changed, "Write it as the template does.", where, field))
    return found


def _trimmed(view: ChatView, chat: TokenizedChat, row: Row, place: int) -> bool:
    """Whether white space at the ends of a message makes no difference to the model."""
    message = row.prompt[place]
    bare = message.model_copy(update={"content": message.content.strip()})
    if bare == message:
        return False
    return view.chat((*row.prompt[:place], bare, *row.prompt[place + 1 :]), row.answer).prompt == chat.prompt


def check_mask(data: Dataset, model: str, max_tokens: int) -> Iterator[Finding]:
    """Every row as the trainer would see it, the spread of tokens, and one row to look at."""
    from spillover.models.tokens import ChatView

    view = ChatView(model)
    counts: list[int] = []
    preview = ""
    chats = view.chats([(row.prompt, row.answer) for row in data.rows])
    for row, chat in zip(data.rows, chats, strict=True):
        counts.append(chat.loss)
        preview = preview or f"{chat.prompt}[[{chat.learned}]]"
        yield from row_problems(view, chat, row, max_tokens)
    counts.sort()
    spread = f"median {counts[len(counts) // 2]:,} a row, at most {counts[-1]:,}"
    yield Finding("note", "tokens", f"{sum(counts):,} tokens carry loss: {spread}.", field="answer")
    shown = preview if len(preview) <= PREVIEW else f"{preview[: PREVIEW // 2]} ... {preview[-PREVIEW // 2 :]}"
    yield Finding("note", "mask", f"Tokens in [[ ]] carry loss: {shown!r}", lines=(data.rows[0].line,))
