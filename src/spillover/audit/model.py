"""Which model an audit is for: an embedded name, a hub id, a folder, or a YAML file of the keys of `models`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from spillover.backends.weights import EMBEDDED
from spillover.config import ModelConfig, refused
from spillover.errors import UserError


def read_model(given: str) -> ModelConfig:
    """The model that a person names on the command line.

    Raises:
        UserError: when a YAML file cannot be read or is not a model.
    """
    if given.endswith((".yaml", ".yml")):
        return _from_file(Path(given))
    if given in EMBEDDED:
        return ModelConfig(name=given)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(given).name).strip("-._") or "model"
    return ModelConfig(name=name[:80], path=given)


def _from_file(path: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{path} is not YAML. Write the keys of a model, such as name: and path:.") from None
    except ValidationError as error:
        raise refused(error, ModelConfig, path, path.read_text(encoding="utf-8")) from None
