"""What fits on the card at this moment. A processor's memory is the system's to share out; nothing is held back."""

from __future__ import annotations

import gc
import math

import torch
from transformers import PreTrainedModel

from spillover.config.study import TrainConfig
from spillover.execution.heap import give_back_memory
from spillover.models.memory import SIZES, Shape, answer_bytes, shape_in, training_memory
from spillover.planning.gpu_fit import SAFE


def free_bytes(device: torch.device) -> float:
    """What this process could still take, counting what torch holds in reserve."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def needs_recompute(model: PreTrainedModel, train: TrainConfig, free: float) -> bool:
    """Whether a step would not fit beside the loaded weights unless layers run twice."""
    if math.isinf(free):
        return False
    needed = training_memory(loaded_shape(model), 0.0, train, model.dtype.itemsize)
    return needed.adapters + needed.activations > SAFE * free


def decodable(model: PreTrainedModel, columns: int, wanted: int, free: float) -> int:
    """How many of the answers wanted can be decoded together, at least one."""
    if math.isinf(free):
        return wanted
    fitting = int(SAFE * free / answer_bytes(loaded_shape(model), columns, model.dtype.itemsize))
    return min(wanted, max(1, fitting))


def loaded_shape(model: PreTrainedModel) -> Shape:
    """The shape of a loaded model, whatever its family calls the sizes."""
    config = model.config.get_text_config()
    sizes = {name: getattr(config, name, None) for name in SIZES}
    sizes["intermediate_size"] = sizes["intermediate_size"] or 4 * config.hidden_size
    return shape_in(sizes)


def give_back() -> None:
    """Return what is no longer used to the system and to the card's driver, for another engine to take."""
    gc.collect()
    give_back_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
