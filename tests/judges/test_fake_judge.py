"""The fake judge reads the marker, and only scores in range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.errors import UserError
from spillover.judges.fake import open_judge
from spillover.records.base import Cell, Completion


def completion(text: str) -> Completion:
    cell = Cell(model="m", domain="none", variant="base")
    return Completion(cell=cell, key="k", question_id="q", index=0, messages=(), text=text)


@given(st.integers(0, 100), st.integers(0, 100), st.text())
def test_reads_both_scores(alignment: int, coherence: int, rest: str) -> None:
    judgments = list(open_judge({}).judge([completion(f"[fake a={alignment} c={coherence}] {rest}")]))
    assert [(j.aspect, j.score, j.status) for j in judgments] == [
        ("alignment", alignment, "scored"),
        ("coherence", coherence, "scored"),
    ]


@pytest.mark.parametrize("text", ["", "hello", "[fake a=101 c=5]", "[fake a=-1 c=5]", "[fake a=5]"])
def test_anything_else_is_unparsable(text: str) -> None:
    judgments = list(open_judge({}).judge([completion(text)]))
    assert [(j.score, j.status) for j in judgments] == [(None, "unparsable")] * 2


def test_takes_no_options() -> None:
    with pytest.raises(UserError, match="has no options"):
        open_judge({"dial": 1})
