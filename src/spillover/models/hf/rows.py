"""Chats in tokens, what they share, and how a batch of them is cut into forward passes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spillover.errors import UserError
from spillover.models.protocols import Chat
from spillover.models.tokens.chat import chat_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Row:
    """One chat in tokens; loss is on ids[start:], the answer and its end-of-turn token."""

    ids: tuple[int, ...]
    start: int

    @property
    def labels(self) -> int:
        return len(self.ids) - self.start


def encode(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], max_tokens: int) -> list[Row]:
    """Tokens of every chat.

    Raises:
        UserError: when an answer would be cut. A cut answer has no end, and what is lost differs between domains.
    """
    rows: list[Row] = []
    for messages, answer in chats:
        ids, start, end = chat_ids(tokenizer, messages, answer)
        assert 0 < start < end == len(ids), f"answer tokens [{start}, {end}) of {len(ids)}"
        rows.append(Row(tuple(ids), start))
    lengths = [len(row.ids) for row in rows]
    too_long = [index for index, length in enumerate(lengths) if length > max_tokens]
    if too_long:
        raise UserError(
            f"{len(too_long)} of {len(rows)} examples are longer than train.max_tokens={max_tokens}, the first being "
            f"number {too_long[0]} with {lengths[too_long[0]]}; the longest has {max(lengths)}. Shorten them or set "
            f"train.max_tokens={max(lengths)}."
        )
    return rows


def shared_prefix(rows: Sequence[Row]) -> int:
    """How many first tokens all rows share, short of the last prompt token, which predicts the answer's first."""
    return min(shared_length([row.ids for row in rows]), *(row.start - 1 for row in rows))


def shared_length(texts: Collection[list[int]] | Collection[tuple[int, ...]]) -> int:
    """How many tokens all texts begin with."""
    low, high = min(texts), max(texts)  # in lexical order every text lies between these two
    return next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def fitting(lengths: Sequence[int], limit: int) -> int:
    """How many of the first texts, shortest first, one padded pass of at most `limit` places takes: at least one."""
    return next((n for n in range(len(lengths), 1, -1) if n * lengths[n - 1] <= limit), 1)


def split(rows: Sequence[Row], prefix: int, limit: int) -> list[list[Row]]:
    """Cut a batch into passes of at most `limit` tokens beyond the prefix, or one row, rows of like length together."""
    passes: list[list[Row]] = []
    room = 0
    for row in sorted(rows, key=lambda row: len(row.ids)):
        room -= len(row.ids) - prefix
        if not passes or room < 0:
            passes.append([])
            room = limit - (len(row.ids) - prefix)
        passes[-1].append(row)
    return passes
