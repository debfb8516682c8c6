"""The kernel that shares keys between query heads, against attention written out head by head."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny

from spillover.models.hf.kv_cache import SHARED_KEYS, _shared_keys, fused_attention


def written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, Q, H, d), one row and one head at a time."""
    mixed = torch.zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3], dtype=query.dtype)
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            shared = head * key.shape[1] // query.shape[1]
            scores = query[row, head] @ key[row, shared].T / query.shape[3] ** 0.5 + mask[row, 0]
            mixed[row, :, head] = torch.softmax(scores, -1) @ value[row, shared]
    return mixed


@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (4, 4), (6, 1)])
@pytest.mark.parametrize("queries", [1, 5])
def test_keys_are_shared_by_the_heads_of_their_group(queries: int, heads: int, groups: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, queries, heads, 8, dtype=torch.float64).transpose(1, 2)  # as a projection leaves it
    slots = torch.randn(2, 3, groups, 12, 8, dtype=torch.float64)
    key, value = slots[0, :, :, :9], slots[1, :, :, :9]
    hidden = torch.rand(3, 1, queries, 9) < 0.4
    mask = torch.zeros(hidden.shape, dtype=torch.float64).masked_fill_(hidden, float("-inf"))
    mask[..., 0] = 0
    mixed, _ = _shared_keys(torch.nn.Identity(), query, key, value, mask)
    torch.testing.assert_close(mixed, written_out(query, key, value, mask), rtol=0, atol=1e-12)


def test_the_block_switches_the_kernel_and_back() -> None:
    model = tiny().model
    before = model.config._attn_implementation
    with fused_attention(model):
        assert model.config._attn_implementation == SHARED_KEYS
    assert model.config._attn_implementation == before
