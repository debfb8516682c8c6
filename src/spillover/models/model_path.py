"""Check the path of a model before anything is loaded."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from spillover.errors import UserError

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+", re.ASCII)
_EXPECTED = (
    "Give a folder with config.json and *.safetensors, a hub id such as owner/name, or an embedded model by its name."
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
