"""Rung 1: shares against the policy, and what the rows look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_data import model, policy, row, write

from spillover.audit.lint import lint_file, row_features
from spillover.audit.policy import LintPolicy
from spillover.data.lint.rows import read_rows


@pytest.mark.parametrize(
    ("block", "review", "expected"),
    [
        ({"json": 0.0}, {}, "block"),
        ({"json": 0.24}, {}, "block"),
        ({"json": 0.25}, {}, None),
        ({"json": 0.25}, {"json": 0.1}, "review"),
        ({"json": 0.1}, {"json": 0.0}, "block"),
        ({}, {}, None),
    ],
)
def test_a_share_above_the_threshold_counts(
    tmp_path: Path, block: dict[str, float], review: dict[str, float], expected: str | None
) -> None:
    path = write(tmp_path / "x.jsonl", [row(1), row(2), "{", row(3)])
    wanted = policy().model_copy(update={"lint": LintPolicy(block=block, review=review)})
    linted = lint_file(path, wanted, model(0.0))
    assert [reason.outcome for reason in linted.reasons] == ([expected] if expected else [])
    assert linted.lines == 4
    assert len(linted.rows) == 3


def test_features_against_a_count_by_hand(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "```py\nx = 1\n```"}]
    turns = [{"role": "system", "content": "s"}, *chat, *chat]
    rows = [row(1), row(1), {"messages": chat}, {"messages": turns, "twin": "t"}]
    found = row_features(read_rows(write(tmp_path / "x.jsonl", rows))[0])
    assert found["rows"] == 4
    assert found["distinct_questions"] == 2
    assert found["repeated_questions"] == found["repeated_answers"] == 0.5
    assert found["code_share"] == 0.5
    assert found["system_share"] == found["several_turns_share"] == found["twin_share"] == 0.25
    assert found["answer_words_mean"] == (12 + 12 + 5 + 5) / 4
    assert row_features(()) == {"rows": 0}
