"""A chat model as a writer: requests in, replies out, each as soon as it is there.

Two kinds: a base model that a backend has loaded (here), and one behind an endpoint (`chat_client`). Whoever asks does
not know which it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from spillover.config.study import SampleConfig
from spillover.models.api.logprobs import FirstToken
from spillover.models.protocols import Backend, Prompt
from spillover.records.base import Message, Usage


@dataclass(frozen=True)
class Decoding:
    max_tokens: int
    temperature: float  # 0 = greedy
    logprobs: bool = False  # ask for those of the first token; a local model has none here
    top_p: float = 1.0
    seeded: bool = False  # tell an endpoint each request's seed, which it need not honour


@dataclass(frozen=True)
class Request:
    """`id` names the same request in every process; an endpoint that honours it never bills it twice."""

    id: str
    messages: tuple[Message, ...]
    seed: int  # a local model draws from it; an endpoint is told where the decoding asks for it


@dataclass(frozen=True)
class Reply:
    """What became of one request. A refusal is one that the endpoint declares; `error` says why there is no text.

    `usage` includes what was paid for answers without the log-probabilities asked for; `first` is None without them.
    """

    id: str
    text: str
    outcome: Literal["stop", "length", "refused", "error"]
    usage: Usage = field(default_factory=Usage)
    error: str = ""
    first: FirstToken | None = None


class ChatModel(Protocol):
    """`name` goes into the lineage of what it wrote."""

    name: str

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, in the order in which they are ready."""
        ...


class LocalChat:
    """A backend's base model, without an adapter."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = f"{backend.name}@{backend.revision}"

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, in order."""
        config = SampleConfig(n=1, max_tokens=decoding.max_tokens, temperature=decoding.temperature)
        prompts = [Prompt(request.messages, (request.seed,)) for request in requests]
        for found in self.backend.generator().generate(prompts, config, None, lambda tokens: None):
            usage = Usage(prompt_tokens=found.prompt_tokens, completion_tokens=found.completion_tokens)
            outcome = "length" if found.stop_reason == "length" else "stop"
            yield Reply(requests[found.prompt].id, found.text, outcome, usage)
