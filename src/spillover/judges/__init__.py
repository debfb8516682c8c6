"""The judges. Adding one: a file here with a function open(options) -> Judge, and a line in this table."""

from spillover.registry import Registry

JUDGES = Registry("judge", {"probe": "spillover.judges.probe:open_judge", "fake": "spillover.judges.fake:open_judge"})
