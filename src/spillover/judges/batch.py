"""The `llm` judge at half the price: the same questions and the same cache, asked through the Batch API.

A batch may take a day. Its id is on disk before it is waited for; stopped at any time, the same command goes on with
the batches under way. With `wait: false` a run submits every cell's verdicts, stops, and picks them up when run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spillover.judges.llm import ChatJudge, endpoint, price_of, price_of_options
from spillover.judges.options import BatchOptions, ChatOptions, parse
from spillover.models.api.cache import ChatCache
from spillover.models.api.model import Decoding, Reply, Request

__all__ = ["open_judge", "price_of"]


def ask_later(options: ChatOptions, cache: ChatCache, requests: Sequence[Request], decoding: Decoding) -> list[Reply]:
    """Submit what is not under way, and wait for all of it."""
    from spillover.models.api.batches import BatchClient, Limits

    assert isinstance(options, BatchOptions)
    limits = Limits(options.batch_requests, options.batch_bytes, options.enqueued_tokens, options.max_cost)
    price = price_of_options(options)
    client = BatchClient(endpoint(options), cache, options.account, price, limits, options.poll, options.wait)
    return list(client.ask(requests, decoding))


def open_judge(options: dict[str, Any]) -> ChatJudge:
    """The judge that options["endpoint"] and options["model"] name."""
    return ChatJudge("batch", parse(BatchOptions, options, "batch"), ask_later)
