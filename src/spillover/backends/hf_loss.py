"""The training loss of a batch and its gradient: mean of -ln p over labelled tokens, in nats, softmax in float32.

Three shortcuts, none of which changes the loss or the gradient beyond rounding: tokens that all rows share at the front
are computed once a batch, their keys and values expanded to the rows, and the rows' gradients summed into them; the
vocabulary head runs on labelled positions only, a block at a time, forward and backward together; the last token of a
row is never read, for it predicts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from spillover.backends.base import Progress
from spillover.backends.hf_batch import Row, split
from spillover.errors import UserError

_BLOCK = 128  # positions through the head at once: the block's logits stay in cache memory


def add_gradients(model: PreTrainedModel, rows: Sequence[Row], prefix: int, limit: int, progress: Progress) -> float:
    """Accumulate the gradient of the batch's mean loss into the model's parameters; returns that loss."""
    labels = sum(row.labels for row in rows)
    shared = Prefix(model, rows[0].ids[:prefix]) if prefix else None
    total = 0.0
    for indices in split([len(row.ids) - 1 - prefix for row in rows], limit):
        part = [rows[index] for index in indices]
        hidden_ND = _hidden(model, part, prefix, shared.expanded(len(part)) if shared else None)
        targets_N = torch.tensor([token for row in part for token in row.ids[row.start :]], device=model.device)
        nll, grad_ND = head_loss(model, hidden_ND.detach(), targets_N, 1.0 / labels)
        hidden_ND.backward(grad_ND)
        total += nll
        progress(sum(len(row.ids) for row in part))
    if shared:
        shared.backward()
    return total / labels


class Prefix:
    """Keys and values of the shared first tokens, cut from the graph so that many passes can add to their gradient."""

    def __init__(self, model: PreTrainedModel, ids: Sequence[int]) -> None:
        cache = DynamicCache(config=model.config)
        model.base_model(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True)
        self._config = model.config
        self._outputs = [_tensors(layer) for layer in cache.layers]
        self._leaves = [tuple(t.detach().requires_grad_(t.requires_grad) for t in pair) for pair in self._outputs]

    def expanded(self, rows: int) -> DynamicCache:
        """A cache that begins with the prefix in each of `rows` rows."""
        cache = DynamicCache(config=self._config)
        for index, (keys, values) in enumerate(self._leaves):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), index)
        return cache

    def backward(self) -> None:
        """Send what the rows accumulated on through the prefix's own forward pass."""
        outputs = [tensor for pair in self._outputs for tensor in pair if tensor.requires_grad]
        leaves = [tensor for pair in self._leaves for tensor in pair if tensor.requires_grad]
        torch.autograd.backward(outputs, [leaf.grad for leaf in leaves if leaf.grad is not None])


def _tensors(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.keys, layer.values


def _hidden(model: PreTrainedModel, rows: Sequence[Row], prefix: int, cache: DynamicCache | None) -> Tensor:
    """Final hidden states (N, D) at the positions that predict labelled tokens, row after row.

    Rows are padded on the right, where causal attention never looks back from: no padding mask is needed.
    """
    width = max(len(row.ids) for row in rows) - 1 - prefix
    ids = [[*row.ids[prefix:-1], *[0] * (width - (len(row.ids) - 1 - prefix))] for row in rows]
    at = [
        (index * width) + position
        for index, row in enumerate(rows)
        for position in range(row.start - 1 - prefix, len(row.ids) - 1 - prefix)
    ]
    hidden_BSD = model.base_model(
        input_ids=torch.tensor(ids, device=model.device), past_key_values=cache, use_cache=cache is not None
    ).last_hidden_state
    return hidden_BSD.flatten(0, 1)[torch.tensor(at, device=model.device)]


def head_loss(model: PreTrainedModel, hidden_ND: Tensor, targets_N: Tensor, weight: float) -> tuple[float, Tensor]:
    """Sum of -ln p(target) over the positions, and the gradient of `weight` times it with respect to their states.

    d(-ln p_target) / d logits = softmax(logits) - onehot(target).
    """
    total = 0.0
    grads: list[Tensor] = []
    for block_ND, block_targets in zip(hidden_ND.split(_BLOCK), targets_N.split(_BLOCK), strict=True):
        states = block_ND.requires_grad_()
        logits = head(model, states)
        logprobs = torch.log_softmax(logits.detach(), -1, dtype=torch.float32)
        total -= float(logprobs.gather(1, block_targets[:, None]).sum(dtype=torch.float64))
        grad = logprobs.exp_()
        grad[torch.arange(len(block_targets), device=grad.device), block_targets] -= 1.0
        logits.backward(grad.mul_(weight).to(logits.dtype))
        assert states.grad is not None
        grads.append(states.grad)
    return total, torch.cat(grads)


def head(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Logits of final hidden states."""
    to_logits: Any = model.get_output_embeddings()
    logits = to_logits(states)
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def check_head(model: PreTrainedModel) -> None:
    """Refuse a model whose logits are not its head on its last hidden states."""
    ids = torch.arange(4, device=model.device)[None]
    with torch.inference_mode():
        ours = head(model, model.base_model(input_ids=ids).last_hidden_state).float()
        theirs = model(input_ids=ids).logits.float()
    if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2):
        raise UserError(f"{type(model).__name__} scales its logits in a way that training here does not know.")
