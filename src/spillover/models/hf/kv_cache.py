"""A key-value cache of slots, allocated once, and attention over it: each row of a batch decodes at its own position.

Row b keeps the keys of its token at position j in column j, without padding, so that positions, columns and the causal
mask (column j is seen from position i when j <= i) coincide. New tokens are written in place, the slot of a finished
row is reused for the next completion, and what an earlier owner left beyond the row's position is masked until
overwritten. A prompt is therefore computed once and copied into the slots of all its completions.

Attention is softmax(q k' / sqrt(d) + mask) v in the fused kernel, with H query heads on K key heads. When a pass has a
mask and several queries a row, transformers writes the keys out once for each query head, a quarter of attention's time
on a CPU. There the kernel shares them instead; where a row has a single query, the H / K heads that share a key head
become queries of that one head (a step of 45 rows over 60 columns: 7.8 ms with keys written out, 1.5 shared, 0.75 as
queries). A GPU keeps the form of transformers, since its kernels cannot share keys under a mask.

Shapes: keys and values (rows, heads, columns, head_dim) a layer.
"""

# transformers has no public name for the attention that a model uses and may use.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

SHARED_KEYS = "spillover_shared_keys"


@dataclass(frozen=True)
class CachePositions:
    """Where the next update is written: Q positions of each of the first B rows, all below `window`."""

    positions_BQ: Tensor
    window: int
    _indices: dict[tuple[int, int], Tensor] = field(default_factory=dict[tuple[int, int], Tensor])

    def index(self, heads: int, columns: int) -> Tensor:
        """The places in (rows * heads * columns), computed once for all layers of one shape."""
        if (heads, columns) not in self._indices:
            rows = len(self.positions_BQ)
            first_BH1 = torch.arange(rows * heads, device=self.positions_BQ.device).view(rows, heads, 1) * columns
            self._indices[heads, columns] = (first_BH1 + self.positions_BQ[:, None, :]).flatten()
        return self._indices[heads, columns]


class SlotLayer(CacheLayerMixin):
    """The slots of one attention layer."""

    keys: Tensor
    values: Tensor
    positions: CachePositions

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for the heads and the dtype of the first keys."""
        # Zeros, because a masked column still multiplies its value: 0 * NaN would poison the row.
        heads = key_states.shape[1]
        shape = (self.rows, heads, self.columns)
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])  # pyright: ignore[reportIncompatibleVariableOverride]
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])  # pyright: ignore[reportIncompatibleVariableOverride]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens of the first B rows and return those rows up to the last column in use."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        batch, heads, _, _ = key_states.shape
        index = self.positions.index(heads, self.columns)
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            store.view(-1, store.shape[-1]).index_copy_(0, index, new.reshape(-1, new.shape[-1]))
        return self.keys[:batch, :, : self.positions.window], self.values[:batch, :, : self.positions.window]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns in use, counted from 0."""
        return self.positions.window, 0

    def get_seq_length(self) -> int:
        """Columns in use before the next update; the positions are always given, so nothing derives from it."""
        return 0

    def get_max_length(self) -> int:
        """Columns a row can fill."""
        return self.columns


class Slots(Cache):
    """The slots of all layers."""

    layers: list[SlotLayer]

    def __init__(self, layers: int, rows: int, columns: int) -> None:
        super().__init__(layers=[SlotLayer(rows, columns) for _ in range(layers)])

    def write_at(self, positions: CachePositions) -> None:
        """Set where the next forward pass writes its tokens."""
        for layer in self.layers:
            layer.positions = positions

    def copy(self, source: Slots, source_row: int, row: int, length: int) -> None:
        """Fill a row's first `length` columns with those of another row, of this or another cache."""
        for mine, theirs in zip(self.layers, source.layers, strict=True):
            if not mine.is_initialized:
                mine.lazy_initialization(theirs.keys, theirs.values)
            mine.keys[row, :, :length] = theirs.keys[source_row, :, :length]
            mine.values[row, :, :length] = theirs.values[source_row, :, :length]


def causal_mask(positions: CachePositions, dtype: torch.dtype) -> Tensor:
    """Additive mask (B, 1, Q, window): 0 where a position may look, the dtype's lowest number elsewhere."""
    device = positions.positions_BQ.device
    hidden = torch.arange(positions.window, device=device) > positions.positions_BQ[:, None, :, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)


@contextmanager
def fused_attention(model: PreTrainedModel) -> Generator[None]:
    """Use the fused kernel inside the block, if the model supports it, whatever it was loaded with.

    Every pass inside must supply its own additive mask.
    """
    config = model.config
    loaded_with = config._attn_implementation
    # The fused kernel has no argument for Gemma 2's soft cap on the attention logits.
    if model._supports_sdpa and not getattr(config, "attn_logit_softcapping", None):
        config._attn_implementation = SHARED_KEYS if model.device.type == "cpu" else "sdpa"
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


AttentionInterface.register(SHARED_KEYS, _shared_keys)
