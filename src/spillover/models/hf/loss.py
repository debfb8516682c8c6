"""The training loss of a batch and its gradient: mean of -ln p over labelled tokens, in nats, softmax in float32.

Rows run packed (see packing), and the vocabulary head runs on labelled positions only, a block at a time, forward and
backward together. Neither changes the loss or its gradient beyond rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from spillover.errors import UserError
from spillover.models.batching import Row, split_into_passes
from spillover.models.hf.packing import Pack, pack
from spillover.models.memory import CPU_PASS
from spillover.models.protocols import Progress

_BLOCK = {"cpu": 128, "cuda": 1024}  # positions through the head at once: the block's logits stay in cache memory
_AGREEMENT = 0.05  # of the largest logit; bfloat16 rounding gives 0.01 to 0.02


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
