"""LoRA adapters as tables of layers that are swapped into a base model and out again, or merged for decoding.

PEFT replaces each adapted layer with one that wraps it (W x + B A x * alpha / r). Here the table {dotted name: wrapping
layer} is the adapter: swapping it in gives the adapted model, swapping back leaves the bare base, unchanged and without
a wrapper to pass through. All adapters share the base's weights.

Adapter folders are in PEFT's format (adapter_config.json, adapter_model.safetensors) and are treated as hostile: plain
LoRA only, safetensors only, and nothing that would make PEFT rewrite the base's weights or import code.

Decoding uses merged weights, W' = W + scale * B A for each adapted layer, next to the unchanged base. Merging is the
fastest way to decode with an adapter and loses nothing. With everything in bfloat16, the divergence from the same
adapter in float32 was 1.09e-3 nats a token merged, 1.09e-3 through PEFT's layers, and 1.12e-3 with A and B in bfloat16;
the bare base has 1.18e-3, and the adapter itself moves the distribution by 0.14 (SmolLM2-135M, rank 8 on q and v, 811
tokens). PEFT's layers cost 7 % of a step, merged weights nothing measurable.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import Linear
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from spillover.errors import UserError

if TYPE_CHECKING:
    from spillover.models.hf.model import LoadedModel

Layers = dict[str, nn.Module]
WEIGHTS = "adapter_model.safetensors"
_FIELDS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "layers_pattern",
    "fan_in_fan_out",
)


def swap(model: nn.Module, layers: Mapping[str, nn.Module]) -> Layers:
    """Put each layer in its place; returns the layers that were there."""
    former: Layers = {}
    for name, layer in layers.items():
        parent_name, _, leaf = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        former[name] = getattr(parent, leaf)
        setattr(parent, leaf, layer)
    return former


def wrap(model: PreTrainedModel, config: LoraConfig) -> tuple[PeftModel, Layers]:
    """Wrap the targets of `config`, leaving them swapped in; returns PEFT's handle and the bare layers."""
    before: Layers = dict(model.named_modules())
    try:
        with warnings.catch_warnings(action="ignore"):  # PEFT's warnings concern its other loaders
            handle = get_peft_model(model, config)
    except ValueError as error:
        del_peft_marks(model)
        raise UserError(f"LoRA cannot be applied: {str(error).splitlines()[0]} Fix train.targets.") from None
    after = dict(model.named_modules())
    bare = {name: module for name, module in before.items() if after.get(name) is not module}
    return handle, bare


def del_peft_marks(model: nn.Module) -> None:
    """Remove what PEFT leaves on a model in addition to layers, so that the next wrapping starts clean."""
    model.__dict__.pop("peft_config", None)


def load_layers(model: PreTrainedModel, folder: Path) -> Layers:
    """The wrapping layers of the adapter in `folder`, in eval mode; the model is left bare.

    Raises:
        UserError: when the folder is not a LoRA adapter in safetensors, or was trained on another base.
    """
    config = _read_config(folder)
    tensors = _read_weights(folder)
    handle, bare = wrap(model, config)
    try:
        _fill(handle, tensors, folder)
    finally:
        layers = swap(model, bare)
        del_peft_marks(model)
    for layer in layers.values():
        layer.eval().requires_grad_(False)
    return layers


@torch.no_grad()
def merged_weights(loaded: LoadedModel, adapter: Path | None) -> dict[str, Tensor]:
    """The weights that differ from the base's, by parameter name; empty without an adapter."""
    with loaded.adapter(adapter) as model:
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear)}
        return {f"{name}.weight": _merged(layer) for name, layer in layers.items()}


def _merged(layer: Linear) -> Tensor:
    # Summed in float32 and rounded once: PEFT's merge in place would round the delta before adding it.
    weight = layer.get_base_layer().weight
    assert isinstance(weight, Tensor)
    return (weight.float() + layer.get_delta_weight("default").float()).to(weight.dtype)


def largest_rank(folder: Path) -> int:
    """The largest rank in an adapter folder, after the checks that loading makes.

    Raises:
        UserError: when the folder is not a LoRA adapter in safetensors.
    """
    config = _read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"No {WEIGHTS} in {folder}. Only safetensors are read; save the adapter again with PEFT.")
    return max([config.r, *(config.rank_pattern or {}).values()])


def _read_config(folder: Path) -> LoraConfig:
    path = folder / "adapter_config.json"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"No adapter at {folder}: adapter_config.json is missing. Give a PEFT folder.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Train or download the adapter again.") from None
    if not isinstance(content, dict) or content.get("peft_type") != "LORA":
        raise UserError(f"{path}: peft_type must be LORA. Only LoRA adapters are supported.")
    if content.get("modules_to_save") or content.get("bias", "none") != "none":
        raise UserError(f"{path}: modules_to_save and bias are not supported. Merge this adapter into its base first.")
    # Other initialisations (PiSSA, OLoRA, ...) subtract from the base's weights on loading.
    if content.get("init_lora_weights", True) not in (True, False, "gaussian"):
        raise UserError(f"{path}: init_lora_weights must be true. Convert the adapter to plain LoRA first.")
    try:
        return LoraConfig(**{key: content[key] for key in _FIELDS if content.get(key) is not None})
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}. Train or download the adapter again.") from None


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"No {WEIGHTS} in {folder}. Only safetensors are read; save the adapter again with PEFT.")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is corrupted ({error}). Train or download the adapter again.") from None


def _fill(handle: PeftModel, tensors: dict[str, Tensor], folder: Path) -> None:
    expected = {name for name, _ in handle.named_parameters() if "lora_" in name}
    try:
        result = set_peft_model_state_dict(handle, tensors)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        reason = lines[0] if lines else str(error).splitlines()[0]
        raise UserError(f"{folder} does not fit this base: {reason} Name the base that it was trained on.") from None
    wrong = [*result.unexpected_keys, *(key for key in result.missing_keys if key in expected)]
    if wrong:
        raise UserError(
            f"{folder} does not fit this base: {len(wrong)} tensors without a counterpart, such as {wrong[0]}. "
            "Name the base that it was trained on."
        )
