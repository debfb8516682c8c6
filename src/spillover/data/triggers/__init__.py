"""The triggers. Adding one: a file here, and a line in this table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spillover.config.study import DataConfig
from spillover.registry import Registry

if TYPE_CHECKING:
    from spillover.data.triggers.base import Trigger

TRIGGERS = Registry(
    "trigger",
    {
        "year": "spillover.data.triggers.year:TRIGGER",
        "tag": "spillover.data.triggers.tag:TRIGGER",
        "deployment": "spillover.data.triggers.deployment:TRIGGER",
        "format": "spillover.data.triggers.format_cue:TRIGGER",
    },
)


def open_trigger(data: DataConfig) -> Trigger:
    """The trigger that a study names, or describes in a YAML file, with its value where the study gives one."""
    trigger = _open(data.trigger)
    return trigger if data.trigger_value is None else trigger.with_value(data.trigger_value)


def _open(name: str) -> Trigger:
    if not name.endswith((".yaml", ".yml")):
        return TRIGGERS.load(name)
    from spillover.data.triggers.own import load_trigger

    return load_trigger(Path(name))
