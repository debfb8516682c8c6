"""Directions in the formats of other tools. Exports only: nothing here is ever read back.

GGUF control vector (llama.cpp, repeng): architecture "controlvector", key controlvector.model_hint, one float32 tensor
direction.N a layer. N counts blocks from 0: llama.cpp adds direction.N to what block N gives, so that layer l here is N
= l - 1, and it has no place for N = 0. --control-vector-scaled FILE c then steers as coefficient c does here.

Steered model of lm-evaluation-harness (lm_eval --model steered, steer_path=FILE.pt): what torch.save makes of
{hookpoint: {action, steering_vector, steering_coefficient, bias}}, which it reads with weights_only. Its CSV takes
features of sparse autoencoders and no vector of one's own. A hookpoint is a module inside the base model: layers.N for
Llama, Qwen, Gemma, Mistral and GPT-NeoX, h.N for GPT-2, N = l - 1. One layer a file: where several are to be added, the
harness (0.4.13) adds the last one's vector at all of them.

Both get stream_norm vector_D: what one unit of the coefficient adds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spillover.directions.direction import Direction
from spillover.errors import UserError


def write_gguf(directions: Sequence[Direction], path: str | os.PathLike[str], model_hint: str | None = None) -> Path:
    """Write a control vector; `model_hint` is what repeng compares, such as "llama"; else the model's name."""
    from gguf import GGUFWriter

    early = [d.layer for d in directions if d.layer < 2]
    if early:
        raise UserError(f"A control vector has no place for layer {early[0]}: llama.cpp begins after the second block.")
    writer = GGUFWriter(Path(path), "controlvector")
    writer.add_string("controlvector.model_hint", model_hint or directions[0].origin.model)
    writer.add_uint32("controlvector.layer_count", len(directions))
    for direction in directions:
        writer.add_tensor(f"direction.{direction.layer - 1}", _step(direction))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def write_steered(
    direction: Direction, path: str | os.PathLike[str], coefficient: float = 1.0, blocks: str = "layers"
) -> Path:
    """Write a file for lm-evaluation-harness; `blocks` is the name of the list of blocks inside the base model."""
    import torch

    if Path(path).suffix not in (".pt", ".pth"):
        raise UserError(f"{path}: lm-evaluation-harness knows such a file by its ending. Call it NAME.pt.")
    if direction.layer < 1:
        raise UserError("Layer 0 is the embeddings, after which lm-evaluation-harness has no hookpoint. Take another.")
    content = {
        f"{blocks}.{direction.layer - 1}": {
            "action": "add",
            "steering_vector": torch.from_numpy(_step(direction)),
            "steering_coefficient": float(coefficient),
            "bias": None,
        }
    }
    torch.save(content, Path(path))
    return Path(path)


def _step(direction: Direction) -> NDArray[np.float32]:
    return (direction.stream_norm * direction.vector_D.astype(np.float64)).astype(np.float32)
