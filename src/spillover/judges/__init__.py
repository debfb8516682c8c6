"""The judges. Adding one: a file here with a function open_judge(options) -> Judge, and a line in this table."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from spillover.config.study import JudgeConfig
from spillover.registry import Registry

if TYPE_CHECKING:
    from spillover.judges.base import Judge

JUDGES = Registry(
    "judge",
    {
        "probe": "spillover.judges.embedded.judge:open_judge",
        "llm": "spillover.judges.llm:open_judge",
        "batch": "spillover.judges.batch:open_judge",
        "hf": "spillover.judges.hf:open_judge",
        "cascade": "spillover.judges.cascade:open_judge",
        "fake": "spillover.judges.fake:open_judge",
    },
)


def open_judge(config: JudgeConfig) -> Judge:
    """The judge that a study names, opened once a process; its models are loaded at its first verdict."""
    return _open(config.model_dump_json())


@cache
def _open(config: str) -> Judge:
    parsed = JudgeConfig.model_validate_json(config)
    return JUDGES.load(parsed.name)(parsed.options)


def price_of(config: JudgeConfig, answers: int, question_tokens: int, answer_tokens: int) -> float:
    """US dollars that judging so many answers of one cell will cost, about; 0 for a judge that states no price."""
    module = sys.modules[JUDGES.load(config.name).__module__]
    stated = getattr(module, "price_of", None)
    return float(stated(config.options, answers, question_tokens, answer_tokens)) if stated else 0.0
