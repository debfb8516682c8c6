"""Training in less memory: every layer keeps its input alone and runs again in the backward pass.

Gradient checkpointing (Chen et al., arXiv 1604.06174): half as much arithmetic again where weights are frozen, and of
what a layer keeps only its input stays. The second run draws the dropout masks of the first, so that the adapter is the
same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from spillover.models.hf.lora import Dropout


@contextmanager
def recomputed(model: PreTrainedModel, dropout: Dropout) -> Generator[None]:
    """Inside the block the model's layers keep their inputs and nothing else."""
    layers: Any = model.get_decoder().layers
    for layer in layers:
        layer.forward = partial(
            checkpoint,
            layer.forward,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing else draws
            context_fn=partial(_twice, dropout),
        )
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _twice(dropout: Dropout) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds a layer's first run, and its second."""
    masks: list[Tensor] = []
    return dropout.drawing(partial(_kept, dropout.draw, masks)), dropout.drawing(lambda x: masks.pop(0))


def _kept(draw: Callable[[Tensor], Tensor], masks: list[Tensor], x: Tensor) -> Tensor:
    masks.append(draw(x))
    return masks[-1]
