"""A stand-in for the Tinker SDK (its classes, signatures and futures, release 0.38), with books; no training happens.

The loss that it returns is 3 / (steps + 1) nats a token, so that a curve tells which steps were made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class TinkerError(Exception):
    """Of the service."""


@dataclass
class Future:
    value: Any
    error: str = ""

    def result(self, timeout: float | None = None) -> Any:
        if self.error:
            raise TinkerError(self.error)
        return self.value


@dataclass
class ModelInput:
    tokens: list[int]

    @classmethod
    def from_ints(cls, tokens: list[int]) -> ModelInput:
        return cls(tokens)


@dataclass
class Datum:
    model_input: ModelInput
    loss_fn_inputs: dict[str, Any]


@dataclass
class AdamParams:
    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    grad_clip_norm: float


@dataclass
class SamplingParams:
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: list[int]


@dataclass
class Books:
    """`fail_at`: the step whose gradients fail, once; `states`: path -> steps made when it was saved."""

    tokenizer: Any
    fail_at: int = -1
    fail_samples: set[int] = field(default_factory=set[int])
    created: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    batches: list[list[Datum]] = field(default_factory=list[list[Datum]])
    adams: list[AdamParams] = field(default_factory=list[AdamParams])
    states: dict[str, int] = field(default_factory=dict[str, int])
    samplers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    sampled: list[tuple[list[int], SamplingParams]] = field(default_factory=list[tuple[list[int], SamplingParams]])


class TrainingClient:
    def __init__(self, books: Books, steps: int) -> None:
        self.books, self.steps = books, steps

    def forward_backward(self, data: list[Datum], loss_fn: str, loss_fn_config: Any = None) -> Future:
        assert loss_fn == "cross_entropy"
        if self.steps == self.books.fail_at:
            self.books.fail_at = -1
            return Future(None, "no machine was free")
        self.books.batches.append(data)
        loss = 3.0 / (self.steps + 1)
        outputs = [{"logprobs": np.full(len(d.model_input.tokens), -loss)} for d in data]
        return Future(SimpleNamespace(loss_fn_outputs=outputs, metrics={}))

    def optim_step(self, optim_params: AdamParams) -> Future:
        self.books.adams.append(optim_params)
        self.steps += 1
        return Future(None)

    def save_state(self, name: str, ttl_seconds: int | None = None, overwrite: bool = False) -> Future:
        self.books.states[f"tinker://{name}"] = self.steps
        return Future(SimpleNamespace(path=f"tinker://{name}"))

    def save_weights_for_sampler(self, name: str, ttl_seconds: int | None = None) -> Future:
        return Future(SimpleNamespace(path=f"tinker://sampler/{name}"))


class SamplingClient:
    def __init__(self, books: Books) -> None:
        self.books = books

    def get_tokenizer(self) -> Any:
        return self.books.tokenizer

    def sample(self, prompt: ModelInput, num_samples: int, sampling_params: SamplingParams) -> Future:
        assert num_samples == 1
        self.books.sampled.append((prompt.tokens, sampling_params))
        if sampling_params.seed in self.books.fail_samples:
            return Future(None, "the sampler was restarted")
        text = self.books.tokenizer("the answer", add_special_tokens=False)["input_ids"]
        tokens = [*text, sampling_params.stop[0]][: sampling_params.max_tokens]
        reason = "stop" if tokens[-1] in sampling_params.stop else "length"
        return Future(SimpleNamespace(sequences=[SimpleNamespace(tokens=tokens, stop_reason=reason)]))


class ServiceClient:
    books: Books

    def __init__(self, *, base_url: str | None = None) -> None:
        self.base_url = base_url

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
    ) -> Future:
        self.books.created.append(locals())
        return Future(TrainingClient(self.books, 0))

    def create_training_client_from_state_with_optimizer(self, path: str) -> Future:
        return Future(TrainingClient(self.books, self.books.states[path]))

    def create_sampling_client(self, model_path: str | None = None, base_model: str | None = None) -> Future:
        self.books.samplers.append({"model_path": model_path, "base_model": base_model})
        return Future(SamplingClient(self.books))


def module(books: Books) -> ModuleType:
    """What `import tinker` gives."""
    made: Any = ModuleType("tinker")
    made.TinkerError = TinkerError
    made.types = SimpleNamespace(
        ModelInput=ModelInput, Datum=Datum, AdamParams=AdamParams, SamplingParams=SamplingParams
    )
    made.ServiceClient = type("ServiceClient", (ServiceClient,), {"books": books})
    return made
