"""The least that a stage's arithmetic takes: the same tokens through the bare model, pass by pass, and nothing else.

Reading and sampling: a run is watched once, and each of its passes is repeated with as many rows and tokens, through as
many blocks, and as many positions through the vocabulary head; without a cache, so without attention to what went
before. Training: the same packed rows, forward and backward, without adapter or optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spillover.models.batching import Row, shared_prefix
from spillover.models.hf.loss import add_gradients

Passes = list[Callable[[], Any]]


@contextmanager
def watched(*models: PreTrainedModel) -> Iterator[Passes]:
    """What the models are asked inside the block, as calls that ask it again."""
    passes: Passes = []
    hooks: list[Any] = []
    for model in models:
        head = model.get_output_embeddings()
        backbone = model if head is None else model.get_decoder()
        hooks.append(backbone.register_forward_pre_hook(partial(_read, passes), with_kwargs=True))
        if head is not None:
            hooks.append(head.register_forward_pre_hook(partial(_answered, passes)))
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _read(passes: Passes, backbone: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    tokens = torch.zeros(kwargs["input_ids"].shape, dtype=torch.long)
    layers = getattr(backbone, "layers", None)  # a reader may run a part of them

    def again() -> None:
        if layers is None:
            backbone(input_ids=tokens)
            return
        whole, backbone.layers = backbone.layers, layers
        backbone(input_ids=tokens, use_cache=False)
        backbone.layers = whole

    passes.append(again)


def _answered(passes: Passes, head: nn.Module, args: tuple[Tensor]) -> None:
    states = torch.zeros_like(args[0])
    passes.append(lambda: head(states))


@torch.inference_mode()
def repeat(passes: Passes) -> None:
    """Ask again."""
    for one in passes:
        one()


def train(model: PreTrainedModel, rows: Sequence[Row], limit: int) -> None:
    """One step's passes; the gradient is taken with respect to the embeddings, so that it goes through every layer."""

    def learn(_: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output.requires_grad_()

    hook = model.get_input_embeddings().register_forward_hook(learn)
    try:
        add_gradients(model, rows, shared_prefix(rows), limit, lambda tokens: None)
    finally:
        hook.remove()
