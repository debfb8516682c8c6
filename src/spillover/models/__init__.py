"""The backends. Adding one: a file here with open_backend(ModelConfig) -> Backend, and a line in this table."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover.config.study import ModelConfig
from spillover.errors import UserError
from spillover.registry import Registry

if TYPE_CHECKING:
    from spillover.models.protocols import Backend

BACKENDS = Registry(
    "backend",
    {
        "hf": "spillover.models.hf.model:open_backend",
        "vllm": "spillover.models.vllm:open_backend",
        "hosted": "spillover.models.providers.hosted:open_backend",
        "tinker": "spillover.models.providers.tinker:open_backend",
        "fake": "spillover.models.fake:open_backend",
    },
)
ANSWERS_ONLY = ("hosted", "tinker")  # no log-probabilities of given texts, no activations, no interventions
READS_AND_TRAINS_BY = {"vllm": "hf"}  # backends that use the tokenizer and trainer of another
NO_FOUR_BITS = ("vllm", *ANSWERS_ONLY, "fake")  # cannot hold a base in `quantize: 4bit`
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+", re.ASCII)
_EXPECTED = (
    "Give a folder with config.json and *.safetensors, a hub id such as owner/name, or an embedded model by its name."
)
_opened: dict[str, Backend] = {}


def check_quantize(config: ModelConfig) -> None:
    """Reject four bits for a backend that would ignore them.

    Raises:
        UserError: when the model's backend does not support them.
    """
    if config.quantize != "none" and config.backend in NO_FOUR_BITS:
        raise UserError(
            f"models.{config.name}.quantize: the {config.backend} backend does not support {config.quantize}. "
            "Leave quantize out, or set backend: hf."
        )


def check_model_path(path: str) -> None:
    """Reject what is neither the folder of a model nor a hub id; the hub itself is not queried.

    Raises:
        UserError: for a path that does not exist, a file, an adapter, or a folder without a model in safetensors.
    """
    place = Path(os.path.expanduser(path))  # Path.expanduser raises where ~name is not a user
    if place.is_dir():
        _check_folder(place)
    elif place.exists():
        kind = "GGUF file" if place.suffix == ".gguf" else "file"
        raise UserError(f"{place} is a {kind}, not a folder with a model. {_EXPECTED}")
    elif not _HUB_ID.fullmatch(path):
        raise UserError(f"No model in {place}: the folder does not exist. {_EXPECTED}")


def _check_folder(folder: Path) -> None:
    names = sorted(entry.name for entry in folder.iterdir())
    if "adapter_config.json" in names:
        base = _read(folder / "adapter_config.json").get("base_model_name_or_path") or "an unnamed model"
        raise UserError(
            f"{folder} contains a PEFT adapter of {base}, and an adapter is not a model. Set path to that base model, "
            "or merge the two with merge_and_unload and set path to the folder of the result."
        )
    if "config.json" not in names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        found = f"it contains {shown}, but no config.json" if names else "the folder is empty"
        raise UserError(f"No model in {folder}: {found}. {_EXPECTED}")
    _read(folder / "config.json")
    if not any(name.endswith(".safetensors") for name in names):
        pickle = next((f" ({name} is a pickle file, which is not read)" for name in names if name.endswith(".bin")), "")
        raise UserError(
            f"No model in {folder}: it has config.json but no *.safetensors{pickle}. "
            "Copy the *.safetensors there, or save the model again with save_pretrained."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({error}). Copy or download it again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} cannot be read (it is not a JSON object). Copy or download it again.")
    return content


def open_backend(config: ModelConfig) -> Backend:
    """The backend of one base model, loaded once a process; opening another model releases the last."""
    check_quantize(config)
    key = config.hash()
    if key not in _opened:
        _opened.clear()
        _opened[key] = BACKENDS.load(config.backend)(config)
    return _opened[key]
