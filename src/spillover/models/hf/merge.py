"""An adapter's merged weights, for decoding: W' = W + scale * B A for each adapted layer, beside the untouched base.

Merging is the fastest way to decode with an adapter, and loses nothing. With everything in bfloat16, the divergence
from the same adapter in float32 was 1.09e-3 nats a token merged, 1.09e-3 through PEFT's layers, and 1.12e-3 with A and
B in bfloat16; the bare base has 1.18e-3, and the adapter itself moves the distribution by 0.14 (SmolLM2-135M, rank 8 on
q and v, 811 tokens). PEFT's layers cost 7 % of a step, merged weights nothing measurable.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft.tuners.lora import Linear
from torch import Tensor

from spillover.models.hf.model import LoadedModel


@torch.no_grad()
def merged_weights(loaded: LoadedModel, adapter: Path | None) -> dict[str, Tensor]:
    """The weights that differ from the base's, by parameter name; empty without an adapter."""
    with loaded.adapter(adapter) as model:
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear)}
        return {f"{name}.weight": _merged(layer) for name, layer in layers.items()}


def _merged(layer: Linear) -> Tensor:
    # Summed in float32 and rounded once: PEFT's merge in place would round the delta before adding it.
    weight = layer.get_base_layer().weight
    assert isinstance(weight, Tensor)
    return (weight.float() + layer.get_delta_weight("default").float()).to(weight.dtype)
