"""The judges. Adding one: a file here with a function open_judge(options) -> Judge, and a line in this table."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from spillover.config import JudgeConfig
from spillover.registry import Registry

if TYPE_CHECKING:
    from spillover.judges.base import Judge

JUDGES = Registry(
    "judge",
    {"probe": "spillover.judges.probe:open_judge", "fake": "spillover.judges.fake:open_judge"},
)


def open_judge(config: JudgeConfig) -> Judge:
    """The judge that a study names, opened once a process; its models are loaded at its first verdict."""
    return _open(config.model_dump_json())


@cache
def _open(config: str) -> Judge:
    parsed = JudgeConfig.model_validate_json(config)
    return JUDGES.load(parsed.name)(parsed.options)
