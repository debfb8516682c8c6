"""The triggers. Adding one: a file here, and a line in this table."""

from spillover.registry import Registry

TRIGGERS = Registry("trigger", {"year": "spillover.triggers.year:TRIGGER"})
