"""Training rows and how a batch of them is cut into forward passes.

Rows differ in length; padding them to one length wastes compute, and so does a pass for every row. The cut that
minimises (padded tokens + a fixed cost a pass) over rows sorted by length is found exactly, by dynamic programming. It
groups within a batch only: batches grouped by length would also be grouped by whatever goes with length, such as the
trigger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spillover.backends.base import Chat
from spillover.backends.chat import chat_ids
from spillover.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PASS_COST = 48  # tokens that cost as much as one more pass; measured with a 135M model on one CPU core


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
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return min(shared, *(row.start - 1 for row in rows))


def split(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Cut the batch into passes: indices of rows, each pass at most `limit` padded tokens or one row.

    Shortest rows first, so the order within a batch is the same whatever order the rows came in, up to ties.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    best = [0.0] + [float("inf")] * len(order)
    cut = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        for begin in range(end - 1, -1, -1):
            padded = lengths[order[end - 1]] * (end - begin)
            if padded > limit and end - begin > 1:
                break
            cost = best[begin] + padded + _PASS_COST
            if cost < best[end]:
                best[end], cut[end] = cost, begin
    passes: list[list[int]] = []
    end = len(order)
    while end:
        passes.append(order[cut[end] : end])
        end = cut[end]
    return passes[::-1]
