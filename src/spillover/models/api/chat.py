"""A chat model that takes requests and yields replies, and what its calls cost in US dollars.

Two classes implement `ChatModel`: `LocalChat` here, a base model loaded by a backend, and `client.ChatClient`, a model
behind an endpoint. The caller need not know which one it has.

    cost = (price.prompt * prompt tokens + price.completion * completion tokens) / 1e6

Before a call starts, its worst case (prompt tokens estimated, max_tokens completion tokens) is held; the usage that the
reply states replaces it. A call whose reply was lost may have been billed, so its worst case counts against the limit
as `lost`, separately from what is known to be `spent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from spillover.config.study import SampleConfig
from spillover.errors import UserError
from spillover.models.protocols import Backend, Prompt
from spillover.records.base import Message, Usage

BYTES_PER_TOKEN = 3  # fewer than ordinary text has, so that a worst case is not exceeded
TOKENS_PER_MESSAGE = 8  # what a chat template adds to one message


@dataclass(frozen=True)
class Decoding:
    max_tokens: int
    temperature: float  # 0 = greedy
    logprobs: bool = False  # request those of the first token; a local model returns none
    top_p: float = 1.0
    seeded: bool = False  # send each request's seed to the endpoint, which may ignore it


@dataclass(frozen=True)
class Request:
    """`id` names the same request in every process; an endpoint that honours it never bills it twice."""

    id: str
    messages: tuple[Message, ...]
    seed: int  # a local model samples with it; an endpoint receives it if the decoding is `seeded`


@dataclass(frozen=True)
class FirstToken:
    """The first token of a reply; `top`: the most likely tokens at its position with ln p, the sampled one included."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Reply:
    """The outcome of one request: "refused" only if the endpoint declares it; `error` is why there is no text.

    `usage` includes calls that were repeated because their log-probabilities were missing. `first`: None without
    log-probabilities.
    """

    id: str
    text: str
    outcome: Literal["stop", "length", "refused", "error"]
    usage: Usage = field(default_factory=Usage)
    error: str = ""
    first: FirstToken | None = None


class ChatModel(Protocol):
    """`name` is recorded in the lineage of what the model writes."""

    name: str

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, in the order in which they arrive."""
        ...


class LocalChat:
    """The base model of a backend, without an adapter."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = f"{backend.name}@{backend.revision}"

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, in order."""
        config = SampleConfig(n=1, max_tokens=decoding.max_tokens, temperature=decoding.temperature)
        prompts = [Prompt(request.messages, (request.seed,)) for request in requests]
        for sampled in self.backend.generator().generate(prompts, config, None, lambda tokens: None):
            usage = Usage(prompt_tokens=sampled.prompt_tokens, completion_tokens=sampled.completion_tokens)
            outcome = "length" if sampled.stop_reason == "length" else "stop"
            yield Reply(requests[sampled.prompt].id, sampled.text, outcome, usage)


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens; zero for an endpoint that does not bill."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, usage: Usage) -> float:
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1e6


def estimate_tokens(text: str) -> int:
    """The number of tokens in a text whose tokenizer is unknown; an overestimate rather than an underestimate."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def worst_case(messages: Sequence[Message], max_tokens: int) -> Usage:
    """The most tokens that one call can use."""
    prompt = sum(estimate_tokens(message.content) + TOKENS_PER_MESSAGE for message in messages)
    return Usage(prompt_tokens=prompt, completion_tokens=max_tokens)


class Meter:
    """Money spent, lost, and held for calls in progress."""

    def __init__(self, price: Price, limit: float | None, spent: float = 0.0) -> None:
        if limit is not None and limit <= spent:
            raise UserError(
                f"The cost limit of ${limit:g} is already spent (${spent:.4f} so far). Raise it with --max-cost "
                "(for a judge: the option max_cost)."
            )
        self.price = price
        self.limit = limit
        self.spent = spent
        self.lost = 0.0
        self.held = 0.0
        self.lost_calls = 0

    def fits(self, dollars: float) -> bool:
        """Whether this much more stays within the limit, whatever the calls in progress will cost."""
        return self.limit is None or self.spent + self.lost + self.held + dollars <= self.limit

    def hold(self, dollars: float) -> None:
        self.held += dollars

    def release(self, dollars: float) -> None:
        self.held -= dollars

    def lose(self, dollars: float) -> None:
        """Count a call that may have been billed without a reply; the amount for its repetition stays held."""
        self.lost += dollars
        self.lost_calls += 1
