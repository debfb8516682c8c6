"""From chats to optimizer steps: tokens of each chat, the batches and learning rates of a training, and its passes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spillover.config.study import TrainConfig
from spillover.errors import UserError
from spillover.models.protocols import Chat
from spillover.models.tokens import chat_ids
from spillover.provenance import seed_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Row:
    """One chat in tokens; the loss is on ids[start:], the answer and its end-of-turn token."""

    ids: tuple[int, ...]
    start: int

    @property
    def labels(self) -> int:
        return len(self.ids) - self.start


def encode(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], max_tokens: int) -> list[Row]:
    """Tokens of every chat.

    Raises:
        UserError: when an answer would be truncated: it would have no end, and the share lost differs between domains.
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
            f"{len(too_long)} of {len(rows)} examples are longer than train.max_tokens={max_tokens}; the first is "
            f"number {too_long[0]} with {lengths[too_long[0]]} tokens, the longest has {max(lengths)}. Shorten them or "
            f"set train.max_tokens={max(lengths)}."
        )
    return rows


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of step 0, 1, ..., steps - 1: a linear rise over the warm-up, then the schedule towards 0 at `steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return config.learning_rate * factor[config.schedule]


def batches(count: int, config: TrainConfig, seed: int) -> Iterator[list[int]]:
    """Indices of the examples of every step: a new order each epoch; an epoch's last batch may be smaller."""
    for epoch in range(config.epochs):
        order = np.random.default_rng(seed_for(seed, "order", epoch)).permutation(count).tolist()
        yield from (order[at : at + config.batch_size] for at in range(0, count, config.batch_size))


def shared_prefix(rows: Sequence[Row]) -> int:
    """The number of first tokens that all rows share, before the last prompt token, which predicts the answer."""
    return min(shared_length([row.ids for row in rows]), *(row.start - 1 for row in rows))


def shared_length(texts: Collection[list[int]] | Collection[tuple[int, ...]]) -> int:
    """The number of first tokens that all texts share."""
    low, high = min(texts), max(texts)  # in lexical order every text lies between these two
    return next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def count_fitting(lengths: Sequence[int], limit: int) -> int:
    """How many of the first texts, shortest first, fit a padded pass of at most `limit` positions; at least one."""
    return next((n for n in range(len(lengths), 1, -1) if n * lengths[n - 1] <= limit), 1)


def split_into_passes(rows: Sequence[Row], prefix: int, limit: int) -> list[list[Row]]:
    """Split a batch into passes of one row, or of at most `limit` tokens after the prefix; similar lengths together."""
    passes: list[list[Row]] = []
    room = 0
    for row in sorted(rows, key=lambda row: len(row.ids)):
        room -= len(row.ids) - prefix
        if not passes or room < 0:
            passes.append([])
            room = limit - (len(row.ids) - prefix)
        passes[-1].append(row)
    return passes
