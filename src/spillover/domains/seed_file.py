"""Reading the seed files that ship with the domains."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def seeds(name: str) -> dict[str, Any]:
    """The content of seeds/<name>.yaml."""
    return yaml.safe_load((files("spillover.domains") / "seeds" / f"{name}.yaml").read_text(encoding="utf-8"))
