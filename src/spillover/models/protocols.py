"""What spillover needs of a model: four small protocols, and a backend that implements them for one base model.

A backend loads its base once and serves every adapter of it. The pipeline does not depend on which backend it has; a
new one is one file and one line in `models/__init__.py`.
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
"""Called with the number of tokens processed since the last call, without padding."""


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a training. `loss_curve`: mean loss per optimizer step, in nats per loss token."""

    steps: int
    loss_curve: tuple[float, ...]
    loss_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Intervention:
    """A change of the residual stream while a completion is sampled.

    `vector_D`: a unit vector u. `layers`: blocks after which the stream x is changed, 1 to the model's depth, 0 = the
    embeddings. add: x + amount u, `amount` in the units of the stream. ablate: x - amount (x.u) u, 1 = projected out
    completely. clamp: x + (amount - x.u) u, so that x.u = amount. `at`: which token positions are changed; the last
    prompt token, from which the first token of the completion is predicted, counts as "prompt".
    """

    vector_D: NDArray[np.float32]
    layers: tuple[int, ...]
    operation: Literal["add", "ablate", "clamp"]
    amount: float
    at: Literal["prompt", "answer", "all"] = "all"


@dataclass(frozen=True)
class Prompt:
    """`seeds`: one per completion, which depends on its own seed and not on its neighbours in the batch.

    Prompts with different interventions may be decoded in one batch.
    """

    messages: tuple[Message, ...]
    seeds: tuple[int, ...]
    intervention: Intervention | None = None


@dataclass(frozen=True)
class Generation:
    """One sampled completion: the number of its prompt, the index of its seed, and the result.

    `stop_reason`: "stop" at an end of turn, "length" at max_tokens. Where there is no text, `error` is the reason, and
    `stop_reason` is "refused" if a provider's filter blocked the completion, which is final, or "error", which may
    succeed another time.
    """

    prompt: int
    index: int
    text: str
    stop_reason: Literal["stop", "length", "refused", "error"]
    prompt_tokens: int
    completion_tokens: int
    dollars: float = 0.0  # billed by a provider
    error: str = ""


@dataclass(frozen=True)
class Span:
    """Token positions [start, stop), counted from the answer's first content token: -1 is the last prompt token.

    `stop` None: to the end of the answer's content. Positions outside a chat are ignored; a span without any token of a
    chat is the last token before it, such as the last prompt token where the answer is empty.
    """

    start: int = 0
    stop: int | None = None


ANSWER, LAST_PROMPT_TOKEN = Span(), Span(-1, 0)


@dataclass(frozen=True)
class Reading:
    """The results of one forward pass over (prompt, answer), at the T answer tokens.

    `states_LD`: residual stream after each requested block, mean over the span's tokens, float32; `norms_L`: mean of
    its length (2-norm) over the same tokens.
    `logprobs_T`: ln p of each answer token, float32; `mean_T`, `std_T`: of the vocabulary's log-probabilities under the
    model's own distribution; `entropy_T` in nats; `rank_T`: of the token among the vocabulary, 1 = the most likely;
    `ids_T`: the tokens. None where not requested.
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
"""A prompt, not yet rendered with a chat template, and the answer to it."""


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

        `keep`: a folder that outlives this process, for the state of a remote job; the parent of `out` when None.
        """
        ...


class Generator(Protocol):
    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Yield every prompt's completions as they become ready: in the order (prompt, index); a provider's in any."""
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
    def compute_info(self) -> dict[str, str]:
        """The dtype, device and torch version of the latest work; empty where only a provider knows them."""
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
