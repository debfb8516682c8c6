"""What spillover asks of a model: four small protocols, and a backend that offers them for one base model.

A backend loads its base once and serves every adapter of it. The pipeline never learns which backend it has; a new one
is one file and one line in `backends/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from spillover.config.study import SampleConfig, TrainConfig
from spillover.records.base import Message

Progress = Callable[[int], None]
"""Called with the number of real tokens done since the last call."""


@dataclass(frozen=True)
class TrainResult:
    """What a training run did. `loss_curve`: mean loss per optimizer step, nats per loss token."""

    steps: int
    loss_curve: tuple[float, ...]
    loss_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Intervention:
    """A change of the residual stream while a model answers.

    `vector_D`: a unit vector u. `layers`: blocks after which the stream x is changed, 1 to the model's depth, 0 = the
    embeddings. add: x + amount u, `amount` in the stream's own units. ablate: x - amount (x.u) u, 1 = wholly projected
    out. clamp: x + (amount - x.u) u, so that x.u = amount. `at`: which token positions are changed; the last prompt
    token, from which the answer's first token is predicted, counts as "prompt".
    """

    vector_D: NDArray[np.float32]
    layers: tuple[int, ...]
    operation: Literal["add", "ablate", "clamp"]
    amount: float
    at: Literal["prompt", "answer", "all"] = "all"


@dataclass(frozen=True)
class Prompt:
    """`seeds`: one for each answer wanted; an answer depends on its own seed, not on its neighbours in the batch.

    Prompts with different interventions may be decoded in one batch.
    """

    messages: tuple[Message, ...]
    seeds: tuple[int, ...]
    intervention: Intervention | None = None


@dataclass(frozen=True)
class Generation:
    """One sampled answer: which prompt, which of its seeds, and what came of it.

    `stop_reason`: "stop" at an end of turn, "length" at max_tokens. Where `error` says why there is no answer, it is
    "refused" if a provider's filter let none through, which is final, or "error", which may go better another time.
    """

    prompt: int
    index: int
    text: str
    stop_reason: Literal["stop", "length", "refused", "error"]
    prompt_tokens: int
    completion_tokens: int
    dollars: float = 0.0  # what a provider bills
    error: str = ""


@dataclass(frozen=True)
class Span:
    """Token positions [start, stop), counted from the answer's first content token: -1 is the last prompt token.

    `stop` None: to the end of the answer's content. What lies outside the chat is left out; a span without any token
    of a chat is the last token before it there, such as the last prompt token where the answer is empty.
    """

    start: int = 0
    stop: int | None = None


ANSWER, LAST_PROMPT_TOKEN = Span(), Span(-1, 0)


@dataclass(frozen=True)
class Reading:
    """What one pass over (prompt, answer) saw at the T answer tokens.

    `states_LD`: residual stream after each asked-for block, mean over the span's tokens, float32; `norms_L`: mean of
    its length (2-norm) over the same tokens.
    `logprobs_T`: ln p of each answer token, float32; `mean_T`, `std_T`: of the vocabulary's log-probabilities under the
    model's own distribution; `entropy_T` in nats; `rank_T`: of the token among the vocabulary, 1 = the most likely;
    `ids_T`: the tokens. None where not asked for.
    """

    tokens: int
    states_LD: NDArray[np.float32] | None = None
    logprobs_T: NDArray[np.float32] | None = None
    mean_T: NDArray[np.float32] | None = None
    std_T: NDArray[np.float32] | None = None
    entropy_T: NDArray[np.float32] | None = None
    rank_T: NDArray[np.float32] | None = None
    ids_T: NDArray[np.int64] | None = None
    norms_L: NDArray[np.float32] | None = None


Chat = tuple[tuple[Message, ...], str]
"""A rendered-to-be prompt and the answer to it."""


class Trainer(Protocol):
    def train(
        self,
        chats: Sequence[Chat],
        config: TrainConfig,
        seed: int,
        out: Path,
        progress: Progress,
        keep: Path | None = None,
    ) -> TrainResult:
        """Fine-tune on the answers of `chats` and write the adapter into the folder `out`.

        `keep`: a folder that outlives this process, for a job that runs elsewhere; the parent of `out` when None.
        """
        ...


class Generator(Protocol):
    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Yield every prompt's answers as they become ready: in the order (prompt, index), from a provider in any."""
        ...


class TokenScorer(Protocol):
    def score(self, chats: Sequence[Chat], adapter: Path | None, progress: Progress) -> Iterator[Reading]:
        """Yield per-token statistics of each answer given its prompt, in the order of `chats`."""
        ...


class ActivationReader(Protocol):
    @property
    def depth(self) -> int:
        """How many blocks the model has: layers go from 0 to this."""
        ...

    def read(
        self,
        chats: Sequence[Chat],
        layers: Sequence[int],
        adapter: Path | None,
        progress: Progress,
        span: Span = ANSWER,
    ) -> Iterator[Reading]:
        """Yield mean activations of the span after the given blocks (0 = embeddings), in the order of `chats`."""
        ...


class Backend(Protocol):
    """One base model, loaded."""

    name: str
    revision: str

    @property
    def computing(self) -> dict[str, str]:
        """What the work done last was computed in: dtype, device, torch; empty where only a provider knows."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in this model's tokens, without special tokens."""
        ...

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """This model's tokens of each text, without special tokens."""
        ...

    def trainer(self) -> Trainer: ...

    def generator(self) -> Generator: ...

    def scorer(self) -> TokenScorer: ...

    def reader(self) -> ActivationReader: ...
