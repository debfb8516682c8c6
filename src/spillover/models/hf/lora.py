"""LoRA while it is trained: y = W x + b + (alpha / r) B A dropout(x), with W frozen.

The parameters are PEFT's own, so PEFT places, initialises and saves them; only the arithmetic is here. A and B are
float32 and are cast to the base's dtype for the two small products, as under autocast; PEFT without autocast casts x to
float32 instead, once a layer, which costs more than the products. Dropout masks are cut from a pool of random bits at
random places: to draw fresh ones takes longer than both products.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from spillover.errors import UserError

_POOL = 1 << 22  # mask elements to cut from; more where one mask needs more


class Dropout:
    """Dropout masks from one seed, the same on every machine; the survivors are to be multiplied by `scale`."""

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
        """Inside the block masks come from there."""
        before, self._next = self._next, masks
        try:
            yield
        finally:
            self._next = before

    def draw(self, x: Tensor) -> Tensor:
        """A fresh mask for x, flat."""
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


def lean(layers: dict[str, nn.Module], dropout: Dropout) -> dict[str, nn.Module]:
    """The training form of PEFT's wrapped layers, sharing their parameters."""
    leaned: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        if not (isinstance(layer, LoraLayer) and isinstance(layer.get_base_layer(), (nn.Linear, Conv1D))):
            raise UserError(f"train.targets names {name}, a {type(layer).__name__}; only linear layers can be trained.")
        leaned[name] = LoraLinear(layer, dropout)
    return leaned
