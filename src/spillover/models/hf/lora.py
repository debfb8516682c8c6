"""LoRA during training: y = W x + b + (alpha / r) B A dropout(x), with W frozen.

The parameters are PEFT's own, so PEFT places, initialises and saves them; only the arithmetic is here. A and B are
float32 and are cast to the base's dtype for the two small products, as under autocast; PEFT without autocast casts x to
float32 instead, once a layer, which costs more than the products. Dropout masks are cut from a pool of random bits at
random offsets: drawing new ones takes longer than both products.

Where memory is short, every layer keeps its input alone and runs again in the backward pass (gradient checkpointing,
Chen et al., arXiv 1604.06174): half as much arithmetic again where weights are frozen. The second run draws the dropout
masks of the first, so that the adapter is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from spillover.errors import UserError

_POOL = 1 << 22  # mask elements to cut from; more where one mask needs more


class Dropout:
    """Dropout masks from one seed, the same on every machine; what is kept has to be multiplied by `scale`."""

    def __init__(self, rate: float, seed: int) -> None:
        self.scale = 1.0 / (1.0 - rate)
        self._rate = rate
        self._rng = np.random.default_rng(seed)
        self._pool = torch.empty(0)
        self._next: Callable[[Tensor], Tensor] = self.draw

    def __call__(self, x: Tensor) -> Tensor:
        """x with elements set to 0; x itself at rate 0."""
        return x * self._next(x).view(x.shape) if self._rate else x

    @contextmanager
    def drawing(self, masks: Callable[[Tensor], Tensor]) -> Generator[None]:
        """Take masks from `masks` inside the block."""
        before, self._next = self._next, masks
        try:
            yield
        finally:
            self._next = before

    def draw(self, x: Tensor) -> Tensor:
        """A new mask for x, flat."""
        if len(self._pool) < 2 * x.numel():
            draws = self._rng.random(max(_POOL, 2 * x.numel()), dtype=np.float32)
            self._pool = torch.from_numpy(draws >= self._rate).to(x.device, x.dtype)
        at = int(self._rng.integers(len(self._pool) - x.numel()))
        return self._pool[at : at + x.numel()]


class LoraLinear(nn.Module):
    """One adapted layer in training."""

    def __init__(self, layer: LoraLayer, dropout: Dropout) -> None:
        super().__init__()
        self.base = layer.get_base_layer()
        self.a_RI = cast(nn.Linear, layer.lora_A["default"]).weight
        self.b_OR = cast(nn.Linear, layer.lora_B["default"]).weight
        self.dropout = dropout
        self.scaling = float(layer.scaling["default"]) * dropout.scale

    def forward(self, x: Tensor) -> Tensor:
        """The base layer's output plus the low-rank update."""
        h = linear(self.dropout(x), self.a_RI.to(x.dtype))
        return self.base(x) + linear(h, (self.b_OR * self.scaling).to(x.dtype))


def training_form(layers: dict[str, nn.Module], dropout: Dropout) -> dict[str, nn.Module]:
    """PEFT's wrapped layers in the form that is trained, with the same parameters."""
    formed: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        if not (isinstance(layer, LoraLayer) and isinstance(layer.get_base_layer(), (nn.Linear, Conv1D))):
            raise UserError(
                f"train.targets matches {name}, a {type(layer).__name__}, but only linear layers can be trained. "
                "Remove it from train.targets."
            )
        formed[name] = LoraLinear(layer, dropout)
    return formed


@contextmanager
def recomputed(model: PreTrainedModel, dropout: Dropout) -> Generator[None]:
    """Inside the block the model's layers keep only their inputs."""
    layers: Any = model.get_decoder().layers
    for layer in layers:
        layer.forward = partial(
            checkpoint,
            layer.forward,
            use_reentrant=False,
            preserve_rng_state=False,  # only the dropout draws
            context_fn=partial(_first_and_second_run, dropout),
        )
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _first_and_second_run(dropout: Dropout) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a layer's first run, which stores its masks, and of its second, which takes them again."""
    masks: list[Tensor] = []
    return dropout.drawing(partial(_stored, dropout.draw, masks)), dropout.drawing(lambda x: masks.pop(0))


def _stored(draw: Callable[[Tensor], Tensor], masks: list[Tensor], x: Tensor) -> Tensor:
    masks.append(draw(x))
    return masks[-1]
