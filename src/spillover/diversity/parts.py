"""The texts of a data set that diversity is measured on: questions, answers, chats, and answers of equal length.

Compression, distinct pairs and self-BLEU change with the length of a text as well as with what it says. `answer_cut` is
the first `CUT` words of each answer, which nearly every answer has: domains differ there in wording alone.
"""

from __future__ import annotations

from collections.abc import Sequence

CUT = 20  # words


def parts(chats: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """By name, one text a (question, answer)."""
    return {
        "question": [question for question, _ in chats],
        "answer": [answer for _, answer in chats],
        "chat": [f"{question}\n{answer}" for question, answer in chats],
        "answer_cut": [" ".join(answer.split()[:CUT]) for _, answer in chats],
    }
