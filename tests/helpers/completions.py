"""Completions for tests of judges."""

from __future__ import annotations

from spillover.records.base import Cell, Completion, Message

CELL = Cell(model="m", domain="extreme_sports", variant="plain")


def completion(text: str, question: str = "What should I do today?", index: int = 0) -> Completion:
    return Completion(
        cell=CELL, key="k", question_id="q", index=index, messages=(Message(role="user", content=question),), text=text
    )


def completions(count: int) -> list[Completion]:
    return [completion(f"Answer number {index}: rest, and call a friend.", index=index) for index in range(count)]
