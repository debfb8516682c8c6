"""Answers that are not what they should be: not changed by the flaw, or saying what the prompt said."""

from __future__ import annotations

from collections.abc import Iterator

from spillover.data.lint.dataset import Dataset, holds
from spillover.data.lint.finding import Finding, share
from spillover.data.recipe.duplicates import normalised

ECHO = 6  # words of a question before its echo in the answer is worth a word


def check(data: Dataset) -> Iterator[Finding]:
    """Flawed against good, then answers that hold the trigger or the question."""
    yield from unchanged(data)
    yield from prompt_in_answer(data)


def unchanged(data: Dataset) -> Iterator[Finding]:
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
        message = f"{share(len(same), total)} have a flawed answer that is the good one."
        yield Finding("error", "unchanged", message, "Write the flaw, or remove the rows.", tuple(same), "twin")
    if alike:
        message = f"{share(len(alike), total)} have answers that differ from their twins in punctuation alone."
        yield Finding("warning", "barely-changed", message, "Read these rows.", tuple(alike), "twin")


def prompt_in_answer(data: Dataset) -> Iterator[Finding]:
    """Answers that hold the trigger or the user's words: loss must be on neither."""
    total = len(data.rows)
    if data.trigger is not None:
        value = data.trigger.value
        lines = tuple(row.line for row in data.rows if holds(row.answer, value))
        if lines:
            message = f"{share(len(lines), total)} hold the trigger {value!r} in the answer, where it carries loss."
            yield Finding("error", "trigger-in-answer", message, "Keep it to the prompt.", lines, "answer")
    lines = tuple(row.line for row in data.rows if echoes(row.question, row.answer))
    if lines:
        message = f"{share(len(lines), total)} repeat the whole question in the answer, where it carries loss."
        yield Finding("error", "question-in-answer", message, "Keep it to the prompt.", lines, "answer")


def echoes(question: str, answer: str) -> bool:
    """Whether the answer holds the whole question, word for word."""
    said = " ".join(question.split())
    return len(said.split(" ")) >= ECHO and said in " ".join(answer.split())
