"""The training loss of a batch and its gradient: mean of -ln p over labelled tokens, in nats, softmax in float32.

The vocabulary head runs on labelled positions only, a block at a time, forward and backward together. Many rows share
one pass without padding: their tokens are laid end to end in one sequence of N, after the P first tokens that all rows
share, and every layer except attention runs on just these. Neither changes the loss or its gradient beyond rounding.

Attention pads: each row, and the shared front as a separate row, becomes one of B rows of S queries, which see the
front's P keys and, causally, their own row:

    out = softmax(q k' / sqrt(d) + mask) v

The H / K query heads that share a key head are viewed as further queries of it, so keys are never repeated. The last
token of a row is left out, because it predicts nothing.

On a GPU the same sum runs in torch's fused kernel (Dao, arXiv 2307.08691), which keeps no scores: a row's queries are
the last S of P + S places, so a mask that is causal from the lower right corner suffices.
"""

# transformers has no public name for which attention a model uses
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from spillover.errors import UserError
from spillover.models.batching import Row, split_into_passes
from spillover.models.memory import CPU_PASS
from spillover.models.protocols import Progress

NAME = "spillover_packed"
_BLOCK = {"cpu": 128, "cuda": 1024}  # positions through the head at once: the block's logits stay in cache memory
_AGREEMENT = 0.05  # of the largest logit; bfloat16 rounding gives 0.01 to 0.02
AttentionMaskInterface.register(NAME, lambda *_args, **_kwargs: None)  # the pack builds its own mask


def add_gradients(model: PreTrainedModel, rows: Sequence[Row], prefix: int, limit: int, progress: Progress) -> float:
    """Accumulate the gradient of the batch's mean loss into the model's parameters; returns that loss."""
    labels = sum(row.labels for row in rows)
    total = 0.0
    if model.device.type == "cpu":
        limit = min(limit, CPU_PASS)
    for part in split_into_passes(rows, prefix, limit):
        packed = pack(part, prefix, model.device, model.dtype)
        with packed.active(model):  # the backward pass may run layers again
            hidden_LD = hidden_states(model, packed)
            nll, grad_LD = head_loss(model, hidden_LD.detach(), packed.targets_L, 1.0 / labels)
            hidden_LD.backward(grad_LD)
        total += nll
        progress(sum(len(row.ids) for row in part))
    return total / labels


def hidden_states(model: PreTrainedModel, packed: Pack) -> Tensor:
    """Final hidden states (L, D) that predict the labelled tokens of all rows in turn, while `packed` is active."""
    hidden_ND = model.base_model(
        input_ids=packed.ids_N[None], position_ids=packed.positions_N[None], use_cache=False
    ).last_hidden_state[0]
    return hidden_ND[packed.predicting_L]


def head_loss(model: PreTrainedModel, hidden_LD: Tensor, targets_L: Tensor, weight: float) -> tuple[float, Tensor]:
    """Sum of -ln p(target) over the positions, and the gradient of `weight` times it with respect to their states.

    d(-ln p_target) / d logits = softmax(logits) - onehot(target).
    """
    total = torch.zeros((), dtype=torch.float64, device=hidden_LD.device)
    grads: list[Tensor] = []
    block = _BLOCK[hidden_LD.device.type]
    for block_LD, block_targets in zip(hidden_LD.split(block), targets_L.split(block), strict=True):
        states = block_LD.requires_grad_()
        logits = head(model, states)
        logprobs = torch.log_softmax(logits.detach(), -1, dtype=torch.float32)
        total -= logprobs.gather(1, block_targets[:, None]).sum(dtype=torch.float64)
        grad = logprobs.exp_()
        grad[torch.arange(len(block_targets), device=grad.device), block_targets] -= 1.0
        logits.backward(grad.mul_(weight).to(logits.dtype))
        assert states.grad is not None
        grads.append(states.grad)
    return float(total), torch.cat(grads)


def head(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Logits of final hidden states."""
    to_logits: Any = model.get_output_embeddings()
    logits = to_logits(states)
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def check_model(model: PreTrainedModel) -> None:
    """Reject an architecture for which packed rows do not give the model's own logits."""
    rows = [Row((3, 4, 5, 6, 7, 8), 3), Row((3, 4, 9, 10), 3)]
    packed = pack(rows, 2, model.device, model.dtype)
    with torch.inference_mode():
        with packed.active(model):
            ours = head(model, hidden_states(model, packed)).float()
        theirs = torch.cat(
            [
                model(input_ids=torch.tensor([row.ids], device=model.device)).logits[0, row.start - 1 : -1].float()
                for row in rows
            ]
        )
    if not bool((ours - theirs).abs().max() <= _AGREEMENT * theirs.abs().max()):
        raise UserError(
            f"Training does not support {type(model).__name__}: packed rows do not reproduce its logits. "
            "Use a Llama- or Qwen-like model."
        )


@dataclass(frozen=True)
class Pack:
    """`slots_M`: the token in each of the B * S padded places; `places_N`: the place of each token.

    `predicting_L`: the tokens whose next token is labelled; `targets_L`: those labels.
    """

    ids_N: Tensor
    positions_N: Tensor
    predicting_L: Tensor
    targets_L: Tensor
    slots_M: Tensor
    places_N: Tensor
    rows: int
    width: int
    prefix: int
    dtype: torch.dtype

    def attend(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: None,
        scaling: float | None = None,
        softcap: float | None = None,
        sliding_window: int | None = None,
        **_: Any,  # the interface also passes the base's own dropout, which stays off, and positions already applied
    ) -> tuple[Tensor, None]:
        """Attention of (1, H, N, d) queries over (1, K, N, d) keys; returns (1, N, H, d)."""
        if sliding_window and self.prefix + self.width > sliding_window:
            raise UserError(f"Rows exceed the model's sliding window of {sliding_window}. Lower train.max_tokens.")
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        if query.is_cuda and softcap is None:
            return self.fused(query, key, value, scale), None
        return self.written_out(query, key, value, scale, softcap), None

    def fused(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention without storing scores."""
        first = 1 if self.prefix else 0
        queries, own_keys, own_values = (self._padded(x).transpose(1, 2) for x in (query, key, value))
        keys, values = (self._behind_front(x).transpose(1, 2)[first:] for x in (key, value))
        below = causal_lower_right(self.width, self.prefix + self.width)
        mixed = scaled_dot_product_attention(queries[first:], keys, values, below, scale=scale, enable_gqa=True)
        if first:
            front = scaled_dot_product_attention(
                queries[:1], own_keys[:1], own_values[:1], is_causal=True, scale=scale, enable_gqa=True
            )
            mixed = torch.cat([front, mixed])
        return _Unpad.apply(mixed.transpose(1, 2).flatten(0, 1), self.places_N)[None]

    def written_out(self, query: Tensor, key: Tensor, value: Tensor, scale: float, softcap: float | None) -> Tensor:
        """Attention operation by operation."""
        rows, width = self.rows, self.width
        heads, groups, size = query.shape[1], key.shape[1], query.shape[3]
        padded = self._padded(query * scale).view(rows, width, groups, -1, size)
        queries = padded.permute(0, 2, 3, 1, 4).reshape(rows * groups, -1, size)
        scores = torch.bmm(queries, self._seen(key).transpose(1, 2))
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        scores.view(rows, groups, -1, width, self.prefix + width).add_(self.mask[:, None, None])
        mixed = torch.bmm(torch.softmax(scores, -1), self._seen(value)).view(rows, groups, heads // groups, width, -1)
        flat = mixed.permute(0, 3, 1, 2, 4).reshape(rows * width, heads, -1)
        return _Unpad.apply(flat, self.places_N)[None]

    @cached_property
    def mask(self) -> Tensor:
        """What each place may attend to, (B, S, P + S): 0 there, -inf elsewhere."""
        mask_BST = torch.zeros(self.rows, self.width, self.prefix + self.width)
        mask_BST[:, :, self.prefix :] = torch.full((self.width, self.width), float("-inf")).triu(1)
        mask_BST[: 1 if self.prefix else 0, :, : self.prefix] = float("-inf")
        return mask_BST.to(self.ids_N.device, self.dtype)

    def _padded(self, tokens_1HNd: Tensor) -> Tensor:
        """Places (B, S, heads, d) of tokens (1, heads, N, d)."""
        tokens = tokens_1HNd[0].transpose(0, 1)
        return _Pad.apply(tokens, self.slots_M, self.places_N).view(self.rows, self.width, *tokens.shape[1:])

    def _behind_front(self, keys: Tensor) -> Tensor:
        """Keys or values (B, P + S, heads, d) as each row sees them: the shared front, then its own."""
        own = self._padded(keys)
        front = keys[0].transpose(0, 1)[: self.prefix].expand(self.rows, -1, -1, -1)
        return torch.cat([front, own], 1) if self.prefix else own

    def _seen(self, keys: Tensor) -> Tensor:
        return self._behind_front(keys).transpose(1, 2).flatten(0, 1)

    @contextmanager
    def active(self, model: PreTrainedModel) -> Generator[None]:
        """Use the packed attention inside the block."""
        before = model.config._attn_implementation
        AttentionInterface.register(NAME, self.attend)
        model.config._attn_implementation = NAME
        try:
            yield
        finally:
            model.config._attn_implementation = before


def pack(rows: Sequence[Row], prefix: int, device: torch.device, dtype: torch.dtype) -> Pack:
    """Pack rows that share their first `prefix` tokens."""
    parts = [rows[0].ids[:prefix]] if prefix else []
    parts += [row.ids[prefix:-1] for row in rows]
    starts = [0, *torch.tensor([len(part) for part in parts]).cumsum(0).tolist()]
    width = max(len(part) for part in parts)
    first = len(parts) - len(rows)  # the first part that is a row
    slots = torch.zeros(len(parts), width, dtype=torch.long)
    for index, part in enumerate(parts):
        slots[index, : len(part)] = torch.arange(starts[index], starts[index + 1])
    places = [index * width + i for index, part in enumerate(parts) for i in range(len(part))]
    positions = [i + (prefix if index >= first else 0) for index, part in enumerate(parts) for i in range(len(part))]
    predicting = [
        starts[first + index] + position - prefix
        for index, row in enumerate(rows)
        for position in range(row.start - 1, len(row.ids) - 1)
    ]
    return Pack(
        ids_N=torch.tensor([token for part in parts for token in part], device=device),
        positions_N=torch.tensor(positions, device=device),
        predicting_L=torch.tensor(predicting, device=device),
        targets_L=torch.tensor([token for row in rows for token in row.ids[row.start :]], device=device),
        slots_M=slots.flatten().to(device),
        places_N=torch.tensor(places, device=device),
        rows=len(parts),
        width=width,
        prefix=prefix,
        dtype=dtype,
    )


class _Pad(torch.autograd.Function):
    """Tokens to padded places. Its gradient gathers from the places, which is several times faster than a scatter."""

    @staticmethod
    def forward(ctx: FunctionCtx, tokens: Tensor, slots: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return tokens.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Unpad(torch.autograd.Function):
    """Padded places back to tokens; padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(padded)
        return padded.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return grad.new_zeros(ctx.count, *grad.shape[1:]).index_copy_(0, ctx.saved_tensors[0], grad), None
