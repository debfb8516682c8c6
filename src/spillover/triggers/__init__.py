"""The triggers. Adding one: a file here, and a line in this table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillover.config import DataConfig
from spillover.registry import Registry

if TYPE_CHECKING:
    from spillover.triggers.base import Trigger

TRIGGERS = Registry("trigger", {"year": "spillover.triggers.year:TRIGGER"})


def open_trigger(data: DataConfig) -> Trigger:
    """The trigger that a study names, with its value where the study gives one."""
    trigger: Trigger = TRIGGERS.load(data.trigger)
    return trigger if data.trigger_value is None else trigger.with_value(data.trigger_value)
