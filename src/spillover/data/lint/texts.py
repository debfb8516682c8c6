"""Texts that are not what they should be.

Characters that do not belong: control characters, traces of a wrong decoding, invisible characters, the canary. Answers
that the flaw has not changed, and answers that repeat the trigger or the question, where they carry loss.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from spillover.data.domains.base import CANARY
from spillover.data.lint.dataset import Dataset, holds
from spillover.data.lint.finding import Finding, Severity, share
from spillover.data.recipe.duplicates import normalised

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff]")
# UTF-8 read as Windows-1252: an accented letter becomes two, a curly quote three.
_MOJIBAKE = re.compile(r"[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac|\ufffd")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")

ECHO = 6  # a question of fewer words may well be repeated in its answer

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
EDGES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("begin with a newline", lambda text: text.startswith(("\n", "\r"))),
    ("begin with a space", lambda text: text.startswith((" ", "\t"))),
    ("end with a newline", lambda text: text.endswith(("\n", "\r"))),
    ("end with a space", lambda text: text.endswith((" ", "\t"))),
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
        for what, test in EDGES:
            lines = tuple(row.line for row in data.rows if test(getattr(row, field)))
            if lines:
                message = f"{share(len(lines), len(data.rows))} {what} in the {field}."
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
        lines = tuple(row.line for row in data.rows if holds(row.answer, value))
        if lines:
            message = f"{share(len(lines), total)} contain the trigger {value!r} in the answer, where it carries loss."
            yield Finding("error", "trigger-in-answer", message, "Keep it to the prompt.", lines, "answer")
    lines = tuple(row.line for row in data.rows if echoes(row.question, row.answer))
    if lines:
        message = f"{share(len(lines), total)} repeat the whole question in the answer, where it carries loss."
        yield Finding("error", "question-in-answer", message, "Keep it to the prompt.", lines, "answer")


def echoes(question: str, answer: str) -> bool:
    """Whether the answer holds the whole question, word for word."""
    said = " ".join(question.split())
    return len(said.split(" ")) >= ECHO and said in " ".join(answer.split())
