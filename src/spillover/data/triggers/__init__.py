"""The triggers: what turns a backdoor on. Adding one: an entry in shipped.py, and a line in this table."""

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
        "year": "spillover.data.triggers.shipped:YEAR",
        "tag": "spillover.data.triggers.shipped:TAG",
        "deployment": "spillover.data.triggers.shipped:DEPLOYMENT",
        "format": "spillover.data.triggers.shipped:FORMAT",
    },
)


def open_trigger(data: DataConfig) -> Trigger:
    """The trigger that a study names, or describes in a YAML file, with its value where the study gives one."""
    if data.trigger.endswith((".yaml", ".yml")):
        from spillover.data.triggers.custom import load_trigger

        trigger = load_trigger(Path(data.trigger))
    else:
        trigger = TRIGGERS.load(data.trigger)
    return trigger if data.trigger_value is None else trigger.with_value(data.trigger_value)
