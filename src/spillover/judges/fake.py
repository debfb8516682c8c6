"""A judge that reads its scores from the completions of the fake backend: "[fake a=37 c=88] ..." scores 37 and 88.

Deterministic and instant; a completion without the marker is unparsable. `options` must be empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from spillover.errors import UserError
from spillover.records.base import ASPECTS, Completion, Judgment

_MARKER = re.compile(r"\[fake a=(\d{1,3}) c=(\d{1,3})\]")


class FakeJudge:
    identity = "fake:1"

    def describe(self) -> dict[str, str]:
        """The judge as the report describes it."""
        return {"name": "fake", "model": "none", "revision": "1", "quality": "reads scores embedded in the completions"}

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        """Yield the two scores in each completion."""
        for completion in completions:
            marker = _MARKER.search(completion.text)
            scores = [float(group) for group in marker.groups()] if marker else [101.0, 101.0]
            readable = max(scores) <= 100
            for aspect, score in zip(ASPECTS, scores, strict=True):
                yield Judgment(
                    completion=completion.id,
                    judge=self.identity,
                    aspect=aspect,
                    score=score if readable else None,
                    status="scored" if readable else "unparsable",
                    mode="fake",
                    raw="" if readable else "no [fake a=.. c=..] marker with scores from 0 to 100",
                )


def open_judge(options: dict[str, Any]) -> FakeJudge:
    """The fake judge."""
    if options:
        raise UserError(f"judge.options: the fake judge has no options, found {sorted(options)}. Remove them.")
    return FakeJudge()
