"""Which model an audit is for: an embedded name, a hub id, a folder, or a YAML file of the keys of `models`."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from spillover.config.study import ModelConfig
from spillover.config.validation import refused
from spillover.config.yaml import read_yaml
from spillover.models.embedded.weights import EMBEDDED


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
        return ModelConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise refused(error, ModelConfig, path, path.read_text(encoding="utf-8")) from None
