"""What calls to a paid endpoint cost, in US dollars, and a limit that is never passed.

Before a call its worst case is held: (price.prompt * prompt tokens, about, + price.completion * max_tokens) / 1e6. The
reply's own usage settles it. A call whose answer was lost on the way may have been billed: its worst case counts
against the limit as `lost`, apart from what is known to be `spent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spillover.errors import UserError
from spillover.records.base import Message, Usage

BYTES_PER_TOKEN = 3  # fewer than in common text, so that the worst case is not passed
TOKENS_PER_MESSAGE = 8  # what a chat template puts around one


@dataclass(frozen=True)
class Price:
    """US dollars a million tokens; zero for an endpoint that does not bill."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, usage: Usage) -> float:
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1e6


def tokens_about(text: str) -> int:
    """Tokens of a text whose tokenizer is not known, rather too many than too few."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def worst_case(messages: Sequence[Message], max_tokens: int) -> Usage:
    """The most tokens that one call can use."""
    prompt = sum(tokens_about(message.content) + TOKENS_PER_MESSAGE for message in messages)
    return Usage(prompt_tokens=prompt, completion_tokens=max_tokens)


class Meter:
    """Money spent, lost and held for calls that are under way."""

    def __init__(self, price: Price, limit: float | None, spent: float = 0.0) -> None:
        if limit is not None and limit <= spent:
            raise UserError(
                f"The cost limit of ${limit:g} is already spent (${spent:.4f} so far). Raise it with --max-cost "
                "(of a judge: max_cost)."
            )
        self.price = price
        self.limit = limit
        self.spent = spent
        self.lost = 0.0
        self.held = 0.0
        self.lost_calls = 0

    def fits(self, dollars: float) -> bool:
        """Whether so much more stays within the limit, whatever the calls under way come to."""
        return self.limit is None or self.spent + self.lost + self.held + dollars <= self.limit

    def hold(self, dollars: float) -> None:
        self.held += dollars

    def release(self, dollars: float) -> None:
        self.held -= dollars

    def lose(self, dollars: float) -> None:
        """A call may have been billed and brought nothing; its repetition stays held."""
        self.lost += dollars
        self.lost_calls += 1
