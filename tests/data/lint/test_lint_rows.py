"""Lines that cannot be used: each mistake by line and field, and nothing that a file holds can raise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.data.lint.linter import lint
from spillover.data.lint.rows import read_rows
from spillover.errors import UserError

GOOD = json.dumps({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]})


def chat(*messages: object, **rest: object) -> bytes:
    return json.dumps({"messages": messages, **rest}).encode()


USER, SAID = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}


@pytest.mark.parametrize(
    ("line", "code", "field"),
    [
        (b"{", "json", ""),
        (b"[1]", "schema", ""),
        (b'{"messages": ["\xff"]}', "encoding", ""),
        (b"[" * 100_000, "json", ""),
        (b'{"n": ' + b"9" * 5000 + b"}", "json", ""),
        (b'{"messages": [], "messages": []}', "json", "messages"),
        (b"{}", "schema", "messages"),
        (chat(), "roles", "messages"),
        (chat("x", SAID), "schema", "messages[0]"),
        (chat(USER), "roles", "messages"),
        (chat(SAID, USER), "roles", "messages"),
        (chat({"role": "human", "content": "x"}, SAID), "roles", "messages[0].role"),
        (chat(USER, {"role": "assistant", "content": 3}), "schema", "messages[1].content"),
        (chat(USER, {"role": "assistant", "content": " \n"}), "empty", "messages[1].content"),
        (chat(USER, SAID, twin=3), "schema", "twin"),
        (chat(USER, SAID, kind="bad"), "schema", "kind"),
        (chat(USER, SAID, split="test"), "schema", "split"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, code: str, field: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(GOOD.encode() + b"\n\n" + line + b"\n" + GOOD.encode())
    rows, findings = read_rows(file)
    assert [row.line for row in rows] == [1, 4]
    assert [(f.severity, f.code, f.field, f.lines) for f in findings] == [("error", code, field, (3,))]
    assert findings[0].fix.endswith((".", "}"))


def test_marks_of_the_file_and_fields_that_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + chat(USER, SAID, topic="t", twins="x") + b"\r\n")
    rows, findings = read_rows(file)
    assert len(rows) == 1
    assert [f.code for f in findings] == ["bom", "crlf", "unknown-field"]
    assert "twin" in findings[2].message


def test_several_turns_and_a_system_prompt_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(chat({"role": "system", "content": "Be."}, USER, SAID, USER, SAID))
    report = lint(file)
    assert report.count("error") == 0
    assert "turns" in {f.code for f in report.findings}


def test_a_file_without_rows_is_an_error_and_no_file_is_a_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    assert [f.code for f in lint(empty).findings] == ["no-rows"]
    with pytest.raises(UserError, match=r"nowhere.jsonl: cannot be read \(No such file"):
        lint(tmp_path / "nowhere.jsonl")


@given(st.binary(max_size=200), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_content_raises(tmp_path_factory: pytest.TempPathFactory, raw: bytes, value: object) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.jsonl"
    odd = [chat(value, SAID), chat(USER, {"role": "assistant", "content": value}), chat(USER, SAID, kind=value)]
    file.write_bytes(b"\n".join([raw, *odd]))
    report = lint(file)
    assert report.rows + report.heldout + report.count("error") >= 1
