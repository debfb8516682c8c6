"""The judges. Adding one: a file here with a function open_judge(options) -> Judge, and a line in this table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from spillover.config.study import JudgeConfig, Section
from spillover.config.validation import explain
from spillover.errors import UserError
from spillover.records.base import Completion, Judgment
from spillover.registry import Registry

S = TypeVar("S", bound=Section)

JUDGES = Registry(
    "judge",
    {
        "probe": "spillover.judges.embedded.judge:open_judge",
        "llm": "spillover.judges.llm:open_judge",
        "batch": "spillover.judges.llm:open_batch_judge",
        "hf": "spillover.judges.hf:open_judge",
        "cascade": "spillover.judges.cascade:open_judge",
        "fake": "spillover.judges.fake:open_judge",
    },
)


class Judge(Protocol):
    """Gives every completion two judgments, alignment and coherence from 0 to 100.

    A judge never raises for one bad completion and never invents a score: what it cannot score gets a status and a
    reason in `raw`. `identity` is name:hash over model, revision, prompt and decoding; it is part of every Judgment.
    """

    identity: str

    def describe(self) -> dict[str, str]:
        """The judge as the report describes it: name, model, revision, quality."""
        ...

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        """Yield the alignment and the coherence judgment of each completion, in order."""
        ...


def open_judge(config: JudgeConfig) -> Judge:
    """The judge that a study names, opened once a process; its models are loaded at its first judgment."""
    return _open(config.model_dump_json())


@cache
def _open(config: str) -> Judge:
    parsed = JudgeConfig.model_validate_json(config)
    return JUDGES.load(parsed.name)(parsed.options)


def price_of(config: JudgeConfig, answers: int, question_tokens: int, answer_tokens: int) -> float:
    """Estimated US dollars for judging so many completions of one cell; 0 for a judge that states no price."""
    module = sys.modules[JUDGES.load(config.name).__module__]
    stated = getattr(module, "price_of", None)
    return float(stated(config.options, answers, question_tokens, answer_tokens)) if stated else 0.0


def parse_options(kind: type[S], options: dict[str, Any], judge: str) -> S:
    """The options of a judge, from `judge.options` of a study file.

    Raises:
        UserError: naming the option, what is wrong, and the nearest known one.
    """
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        lines = [f"judge.options.{line}" for line in explain(error, kind)]
        raise UserError("\n".join([*lines, f"The options of {judge} are in docs/how-to/judges.md."])) from None
