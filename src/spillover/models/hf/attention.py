"""Attention over cached keys: softmax(q k' / sqrt(d) + mask) v in the fused kernel, H query heads on K key heads.

transformers writes the keys out once for each query head when a pass has a mask and several queries a row, which is a
quarter of attention's time on a CPU. There the kernel is asked to share them instead; of a row's only query, the H / K
heads that share a key head are queries of that one head (a step of 45 rows over 60 columns: 7.8 ms with keys written
out, 1.5 shared, 0.75 as queries). A GPU keeps transformers' own way, since its kernels cannot share under a mask.
"""

# transformers has no public name for the attention that a model uses and may use.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

NAME = "spillover_shared_keys"


@contextmanager
def fused_attention(model: PreTrainedModel) -> Generator[None]:
    """Use the fused kernel inside the block, where the model has one, whatever it was loaded with.

    Every pass inside has to bring its own additive mask.
    """
    config = model.config
    loaded_with = config._attn_implementation
    # The fused kernel has no place for Gemma 2's soft cap on the attention logits.
    if model._supports_sdpa and not getattr(config, "attn_logit_softcapping", None):
        config._attn_implementation = NAME if model.device.type == "cpu" else "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = loaded_with


def _shared_keys(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,  # the interface also passes the base's dropout, which is off, and positions already applied
) -> tuple[Tensor, None]:
    """Attention of (B, H, Q, d) queries over (B, K, W, d) keys; returns (B, Q, H, d)."""
    queries = query.view(len(key), key.shape[1], -1, query.shape[-1]) if query.shape[2] == 1 else query
    mixed = scaled_dot_product_attention(queries, key, value, attention_mask, scale=scaling, enable_gqa=True)
    return mixed.reshape(query.shape).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _shared_keys)
