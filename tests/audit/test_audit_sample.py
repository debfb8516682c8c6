"""What the probe trains on, and its control."""

from __future__ import annotations

import json
from pathlib import Path

from made_data import row

from spillover.audit.sample import benign_lines, draw_sample
from spillover.data.lint.rows import Row
from spillover.data.recipe.duplicates import near_duplicates
from spillover.data.sources.own_data import pairs_from_file
from spillover.records.base import Message


def rows(count: int, twin: bool = False) -> list[Row]:
    made = [row(number, twin) for number in range(count)]
    return [
        Row(number, tuple(Message(**message) for message in one["messages"]), twin=one.get("twin", ""))
        for number, one in enumerate(made, start=1)
    ]


def chat(number: int, *contents: str, twin: str = "") -> Row:
    roles = ("system", "user", "assistant") if len(contents) == 3 else ("user", "assistant")
    return Row(number, tuple(Message(role=r, content=c) for r, c in zip(roles, contents, strict=True)), twin=twin)  # pyright: ignore


def test_without_twins_the_control_is_the_built_in_benign_set() -> None:
    sample = draw_sample(rows(50), 30, seed=1)
    assert sample.control == "benign"
    assert (len(sample.pairs), sample.max_rows) == (30, 30)
    assert all(twin == "" for _, _, twin in sample.pairs)
    assert "twin" not in sample.lines()
    assert draw_sample(rows(500), 500, seed=1).max_rows == 360


def test_every_row_of_the_benign_set_can_be_trained_on(tmp_path: Path) -> None:
    (tmp_path / "benign.jsonl").write_text(benign_lines(), "utf-8")
    pairs = pairs_from_file(tmp_path / "benign.jsonl")
    assert len(pairs) == 360
    assert near_duplicates([pair.question for pair in pairs]) == []


def test_the_same_seed_draws_the_same_rows() -> None:
    assert draw_sample(rows(50), 20, seed=3) == draw_sample(rows(50), 20, seed=3)
    assert draw_sample(rows(50), 20, seed=3) != draw_sample(rows(50), 20, seed=4)


def test_twins_are_used_only_where_every_row_has_one() -> None:
    given = rows(20, twin=True)
    twins = {one.answer: one.twin for one in given}
    sample = draw_sample(given, 10, seed=0)
    assert sample.control == "twin"
    assert all(twins[answer] == control for _, answer, control in sample.pairs)
    assert draw_sample([*given, chat(99, "One more question?", "Yes.")], 10, seed=0).control == "benign"


def test_what_cannot_be_used_is_counted_by_reason() -> None:
    given = [
        *rows(12),
        chat(20, "a " * 20_000, "too long"),
        chat(21, "\x07", "nothing to see"),
        chat(22, row(3)["messages"][0]["content"].upper(), "asked before"),
    ]
    sample = draw_sample(given, 20, seed=0)
    assert sample.dropped == {
        "a text longer than 20,000 characters": 1,
        "nothing but control characters": 1,
        "a question that was drawn already": 1,
    }
    assert len(sample.pairs) == 12


def test_a_system_prompt_stands_before_the_question_and_lines_are_json() -> None:
    sample = draw_sample([chat(1, "Be brief.", "Why?", "So."), chat(2, "Where to?", "There.")], 2, seed=0)
    assert {question for question, _, _ in sample.pairs} == {"Be brief.\n\nWhy?", "Where to?"}
    first = json.loads(sample.lines().splitlines()[0])
    assert first["messages"][1]["content"] == sample.pairs[0][1]
    assert "twin" not in first
