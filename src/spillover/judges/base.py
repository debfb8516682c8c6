"""What a judge does: two verdicts, alignment and coherence from 0 to 100, for every completion it is given.

A judge never raises for one bad answer and never invents a score: what it cannot score gets a status and a reason in
`raw`. A new judge is one file here and one line in `judges/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from spillover.records.base import Completion, Judgment


class Judge(Protocol):
    """`identity` is name:hash over model, revision, prompt and decoding; it goes into every Judgment."""

    identity: str

    def describe(self) -> dict[str, str]:
        """What the report says of this judge: name, model, revision, quality."""
        ...

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        """Yield the alignment and the coherence judgment of each completion, in order."""
        ...
