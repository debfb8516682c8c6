"""Reading the seed files that ship with the domains."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of libyaml, ten times as fast, where PyYAML has it


@cache
def seeds(name: str) -> dict[str, Any]:
    """The content of seeds/<name>.yaml."""
    return yaml.load((files("spillover.data.domains") / "seeds" / f"{name}.yaml").read_text(encoding="utf-8"), LOADER)
