"""A local chat model as judge, by the probabilities of all whole numbers from 0 to 100 (`backends/hf_digits`).

score = sum_i i p(i) / sum_i p(i); below a captured mass of 0.25 there is none and the answer is unparsable. The prompts
are those of the `llm` judge. Compare it with labelled answers before you trust it, above all a small one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spillover.config.study import ModelConfig, Section
from spillover.judges.llm import nothing_to_judge
from spillover.judges.options import parse
from spillover.judges.parse_reply import LEAST_MASS, VERSION, Verdict, lowest
from spillover.judges.rubric import ASPECTS, open_rubric
from spillover.records.base import Aspect, Completion, Judgment, content_hash

_AT_ONCE = 256  # completions read together


class HFOptions(Section):
    model: str = Field(default="smollm2-135m", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")  # how results call it
    path: str | None = None  # hub id or folder; None = the embedded model of that name
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: str = "auto"
    prompts: str | None = None  # a file of judge prompts; None = our own


class HFJudge:
    """Judges with one local model, loaded at the first verdict."""

    def __init__(self, options: HFOptions) -> None:
        self.options = options
        self.rubric = open_rubric(options.prompts)
        who = [options.path or options.model, options.revision, options.dtype]
        self.identity = f"hf:{content_hash([1, VERSION, who, self.rubric.hash], 12)}"

    def describe(self) -> dict[str, str]:
        """What the report says of this judge."""
        return {
            "name": "hf",
            "model": self.options.path or self.options.model,
            "revision": self.options.revision or "as found",
            "mode": "logprobs: all numbers from 0 to 100",
            "prompts": f"{self.rubric.name} ({self.rubric.hash})",
            "quality": "not measured here; compare it with labelled answers",
        }

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        """Yield the alignment and the coherence judgment of each completion, in order."""
        for start in range(0, len(completions), _AT_ONCE):
            yield from self._judge(completions[start : start + _AT_ONCE])

    def _judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        reasons = [nothing_to_judge(completion) for completion in completions]
        chats = [self.rubric.chats(c) for c, reason in zip(completions, reasons, strict=True) if not reason]
        # One prompt after the other: all its chats begin alike, and what they share is read once.
        stages = [iter(list(self._reader.read(list(column)))) for column in zip(*chats, strict=True)]
        for completion, reason in zip(completions, reasons, strict=True):
            if reason:
                yield from (
                    self._judgment(completion, a, Verdict(None, "unscored", "logprobs", reason)) for a in ASPECTS
                )
                continue
            left = iter(stages)
            for aspect in ASPECTS:
                prompts = self.rubric.prompts[aspect]
                found = [score(next(next(left))) for _ in prompts]
                yield self._judgment(completion, aspect, lowest(found, [prompt.name for prompt in prompts]))

    @cached_property
    def _reader(self) -> Any:
        from spillover.models.hf.model import load_model
        from spillover.models.hf.number_scorer import NumberReader

        options = self.options
        return NumberReader(
            load_model(
                ModelConfig(
                    name=options.model, path=options.path, revision=options.revision, dtype=options.dtype,
                    device=options.device,
                )
            )
        )  # fmt: skip

    def _judgment(self, completion: Completion, aspect: Aspect, found: Verdict) -> Judgment:
        rounded = None if found.score is None else round(found.score, 2)
        return Judgment(
            completion=completion.id, judge=self.identity, aspect=aspect, score=rounded, status=found.status,
            mode=found.mode, raw=found.raw,
        )  # fmt: skip


def score(p_101: NDArray[np.float64] | None) -> Verdict:
    """The expectation over the numbers; None for a prompt that the model cannot read whole."""
    if p_101 is None:
        return Verdict(None, "unscored", "logprobs", "longer than the judge can read")
    mass = float(p_101.sum())
    if mass < LEAST_MASS:
        return Verdict(None, "unparsable", "logprobs", f"mass={mass:.4f}")
    return Verdict(min(float(np.arange(101) @ p_101) / mass, 100.0), "scored", "logprobs", f"mass={mass:.4f}")


def open_judge(options: dict[str, Any]) -> HFJudge:
    """The judge that options["model"] or options["path"] names."""
    return HFJudge(parse(HFOptions, options, "hf"))
