"""Directions as files: safetensors, and the formats of other tools.

Safetensors: vectors of one origin at one layer or several. vectors_LD float32, layers_L int64, norms_L and
stream_norms_L float64; metadata "spillover": JSON with the format's number, the origin and the counts. A file from
outside is hostile: bounded in size, no pickle, every name, type, shape and value checked.

The other formats are exports only, never read back; both contain stream_norm vector_D, which one unit of the
coefficient adds.

GGUF control vector (llama.cpp, repeng): architecture "controlvector", key controlvector.model_hint, one float32 tensor
direction.N a layer. N counts blocks from 0: llama.cpp adds direction.N to the output of block N, so layer l here is
N = l - 1, and N = 0 is not possible. --control-vector-scaled FILE c then steers as coefficient c does here.

Steered model of lm-evaluation-harness (lm_eval --model steered, steer_path=FILE.pt): what torch.save writes for
{hookpoint: {action, steering_vector, steering_coefficient, bias}}, which it reads with weights_only. Its CSV takes
features of sparse autoencoders and no custom vector. A hookpoint is a module inside the base model: layers.N for
Llama, Qwen, Gemma, Mistral and GPT-NeoX, h.N for GPT-2, N = l - 1. One layer a file: given several, the harness
(0.4.13) adds the last one's vector at all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from spillover.directions.direction import Direction, Origin
from spillover.errors import UserError
from spillover.records.base import Part

LARGEST = 256 * 2**20  # bytes: 200 layers of 16,384 numbers take 13 MiB
_TYPES = {"vectors": np.float32, "layers": np.int64, "norms": np.float64, "stream_norms": np.float64}


class _Head(Part):
    format: Literal[1]
    origin: Origin
    misaligned: int = Field(ge=0)
    aligned: int = Field(ge=0)
    questions: int = Field(ge=0)


def to_bytes(directions: Sequence[Direction]) -> bytes:
    """The bytes of a file with directions of one origin."""
    from safetensors.numpy import save

    first = directions[0]
    head = _Head(
        format=1, origin=first.origin, misaligned=first.misaligned, aligned=first.aligned, questions=first.questions
    )
    tensors = {
        "vectors": np.stack([d.vector_D for d in directions]),
        "layers": np.array([d.layer for d in directions], dtype=np.int64),
        "norms": np.array([d.norm for d in directions]),
        "stream_norms": np.array([d.stream_norm for d in directions]),
    }
    return save(tensors, {"spillover": head.model_dump_json()})


def save(directions: Sequence[Direction] | Direction, path: str | os.PathLike[str]) -> Path:
    """Write directions of one origin into a file."""
    path = Path(path)
    path.write_bytes(to_bytes([directions] if isinstance(directions, Direction) else directions))
    return path


def load(path: str | os.PathLike[str]) -> dict[int, Direction]:
    """The directions in a file, by layer.

    Raises:
        UserError: when there is no such file, or it is not a direction file.
    """
    path = Path(path)
    head, tensors = _read(path)
    vectors_LD, layers_L = tensors["vectors"], tensors["layers"]
    directions = {
        int(layer): Direction(
            vector_D=vectors_LD[i],
            layer=int(layer),
            norm=float(tensors["norms"][i]),
            stream_norm=float(tensors["stream_norms"][i]),
            misaligned=head.misaligned,
            aligned=head.aligned,
            questions=head.questions,
            origin=head.origin,
        )
        for i, layer in enumerate(layers_L)
    }
    if len(directions) != len(layers_L):
        raise _refused(path, "a layer comes twice")
    return directions


def write_gguf(directions: Sequence[Direction], path: str | os.PathLike[str], model_hint: str | None = None) -> Path:
    """Write a control vector; `model_hint` is what repeng compares, such as "llama"; else the model's name."""
    from gguf import GGUFWriter

    early = [d.layer for d in directions if d.layer < 2]
    if early:
        raise UserError(f"A control vector cannot contain layer {early[0]}: llama.cpp begins after the second block.")
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
        raise UserError(f"{path}: lm-evaluation-harness needs the suffix .pt. Name the file NAME.pt.")
    if direction.layer < 1:
        raise UserError("lm-evaluation-harness has no hookpoint after the embeddings (layer 0). Choose another layer.")
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


def _read(path: Path) -> tuple[_Head, dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"No direction file at {path}. Write one: spillover direction RUN --domain NAME --save {path}")
    if path.stat().st_size > LARGEST:
        raise _refused(path, f"it is larger than {LARGEST // 2**20} MiB")
    try:
        with safe_open(path, framework="np") as file:
            metadata, names = file.metadata() or {}, set(file.keys())
            if names != set(_TYPES):
                raise _refused(path, f"it holds {sorted(names)[:5]}, not {sorted(_TYPES)}")
            tensors = {name: file.get_tensor(name) for name in _TYPES}
        head = _Head.model_validate(json.loads(metadata.get("spillover", "null")))
    except (SafetensorError, OSError, TypeError, json.JSONDecodeError) as error:
        raise _refused(path, str(error)[:200]) from None
    except ValidationError as error:
        raise _refused(path, f"metadata: {error.errors()[0]['msg'][:200]}") from None
    _check(path, tensors)
    return head, tensors


def _check(path: Path, tensors: dict[str, NDArray[Any]]) -> None:
    shape = tensors["vectors"].shape
    for name, kind in _TYPES.items():
        found = tensors[name]
        wanted = shape if name == "vectors" else shape[:1]
        if found.dtype != kind or found.shape != wanted or found.ndim != (2 if name == "vectors" else 1):
            raise _refused(path, f"{name} is {found.dtype}{list(found.shape)}")
        if not np.isfinite(found).all():
            raise _refused(path, f"{name} holds a value that is not finite")
        if name != "vectors" and (found < 0).any():
            raise _refused(path, f"{name} holds a negative value")
    if not shape[0]:
        raise _refused(path, "it holds no layer")


def _refused(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not a direction file: {why}. Write it again: spillover direction RUN --save FILE")


def _step(direction: Direction) -> NDArray[np.float32]:
    return (direction.stream_norm * direction.vector_D.astype(np.float64)).astype(np.float32)
