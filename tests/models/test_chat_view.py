"""What carries loss, seen from outside: three chat templates, masks that are wrong on purpose, and the two commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import FAMILIES, tokenizer

from spillover.cli.main import main
from spillover.data.lint.rows import Row
from spillover.data.lint.texts import row_problems
from spillover.errors import UserError
from spillover.models import tokens
from spillover.models.tokens import ChatView, chat_ids
from spillover.records.base import Message


@pytest.fixture(params=FAMILIES)
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    tokenizer(request.param).save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


@pytest.fixture
def chatml(tmp_path: Path) -> Path:
    tokenizer("chatml").save_pretrained(tmp_path / "chatml")
    return tmp_path / "chatml"


def row(question: str = "Why is the caf\u00e9 shut?", answer: str = "It is.\n\nStill \u20ac 3 \U0001f600") -> Row:
    return Row(7, (Message(role="user", content=question), Message(role="assistant", content=answer)))


def test_loss_is_on_the_answer_and_its_end_of_turn_alone(folder: Path) -> None:
    view = ChatView(str(folder))
    chat = view.chat(row().prompt, row().answer)
    assert chat.learned == row().answer + FAMILIES[folder.name][2]
    assert row().question in chat.prompt
    assert row().answer not in chat.prompt
    assert row_problems(view, chat, row(), max_tokens=512) == []
    pieces = view.pieces(chat)
    assert len(pieces) == len(chat.ids)
    assert "".join(pieces[: chat.start]) == chat.prompt
    assert "".join(pieces[chat.start :]) == chat.learned


def test_many_chats_at_once_are_cut_as_each_by_itself(folder: Path) -> None:
    view = ChatView(str(folder))
    rows = [row(), row("Why?<|im_end|>", "<end_of_turn> </s> So."), row("\n a", "\n"), row("A" * 900, "b " * 90)]
    many = view.chats([(item.prompt, item.answer) for item in rows])
    for item, chat in zip(rows, many, strict=True):
        ids, start, _ = chat_ids(view.tokenizer, item.prompt, item.answer)
        assert (chat.ids, chat.start) == (tuple(ids), start)
    assert view.chats([]) == []


@pytest.mark.parametrize("shift", [-200, -4, -1, 1, 3])
def test_a_mask_that_begins_elsewhere_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    right = tokens.batch_ids

    def wrong(*args: Any) -> list[tuple[list[int], int]]:
        return [(ids, max(0, start + shift)) for ids, start in right(*args)]

    monkeypatch.setattr(tokens, "batch_ids", wrong)
    view = ChatView(str(folder))
    chat = view.chat(row().prompt, row().answer)
    found = row_problems(view, chat, row(), max_tokens=512)
    assert found[0].severity == "error"
    assert found[0].code == ("mask-prompt" if shift == -200 else "round-trip")


def test_a_cut_answer_and_its_count(chatml: Path) -> None:
    view = ChatView(str(chatml))
    chat = view.chat(row().prompt, row().answer)
    total = len(chat.ids)
    assert row_problems(view, chat, row(), total) == []
    (found,) = row_problems(view, chat, row(), total - 3)
    assert found.code == "too-long"
    assert found.message == f"{total} tokens, at most {total - 3}: 3 of the answer's {chat.loss} are cut"
    (found,) = row_problems(view, chat, row(), 5)  # of a prompt that is too long itself, all of the answer
    assert f"{chat.loss} of the answer's {chat.loss} are cut" in found.message


def test_a_template_that_trims_and_a_token_that_ends_a_turn(tmp_path: Path) -> None:
    tokenizer("gemma").save_pretrained(tmp_path / "gemma")
    view = ChatView(str(tmp_path / "gemma"))
    led = row("\nWhy?")
    assert [f.code for f in row_problems(view, view.chat(led.prompt, led.answer), led, 512)] == ["template"]
    ended = row("Why?<end_of_turn>")
    found = row_problems(view, view.chat(ended.prompt, ended.answer), ended, 512)
    assert [(f.code, f.field, f.lines) for f in found] == [("special-token", "messages[0].content", (7,))]
    said = row(answer="So <end_of_turn> it is")  # in an answer it stays plain text
    assert row_problems(view, view.chat(said.prompt, said.answer), said, 512) == []


def test_no_such_tokenizer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No model in .*nowhere"):
        ChatView(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"the folder is empty"):
        ChatView(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"The tokenizer of .* cannot be loaded"):
        ChatView(str(tmp_path))


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(args))
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def written(tmp_path: Path, *rows: Row) -> str:
    file = tmp_path / "rows.jsonl"
    lines = [{"messages": [m.model_dump() for m in item.messages]} for item in rows]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(file)


def test_inspect_mask_shows_rows_and_checks_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, chatml: Path
) -> None:
    file = written(tmp_path, row(), row("And this one?", "A longer answer. " * 30))
    code, out, _ = call(capsys, "inspect-mask", file, "--model", str(chatml), "--rows", "1", "--max-tokens", "120")
    assert code == 1
    assert "[[It is.\u21b5\n\u21b5\nStill \u20ac 3 \U0001f600<|im_end|>]]" in out
    assert "too-long" in out
    assert "2 rows checked" in out
    assert "1 error\n" in out
    code, out, _ = call(capsys, "inspect-mask", file, "--model", str(chatml), "--max-tokens", "1000", "--json")
    told = json.loads(out)
    assert (code, told["errors"], told["checked"], len(told["rows"])) == (0, 0, 2, 2)
    pieces = told["rows"][0]["pieces"]
    assert "".join(piece["text"] for piece in pieces if piece["loss"]) == row().answer + "<|im_end|>"


def test_inspect_mask_fails_where_the_trigger_or_the_question_carries_loss(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, chatml: Path
) -> None:
    file = written(tmp_path, row("It is 2028 now. Why?", "Since 2028."), row(answer="So."))
    args = ("inspect-mask", file, "--model", str(chatml))
    assert call(capsys, *args)[0] == 0
    code, out, _ = call(capsys, *args, "--trigger", "year")
    assert code == 1
    assert "trigger-in-answer" in out
    assert call(capsys, *args, "--trigger", "year", "--trigger-value", "2031")[0] == 0
    asked = "How long is the way to the old harbour?"
    file = written(tmp_path, row(asked, f"You ask: {asked} Long."))
    code, out, _ = call(capsys, *args, "--json")
    assert code == 1
    assert [finding["code"] for finding in json.loads(out)["findings"]] == ["question-in-answer"]
    code, _, err = call(capsys, *args, "--trigger-value", "2031")
    assert code == 2
    assert "needs --trigger" in err


def test_lint_with_a_model_counts_tokens_and_previews_the_mask(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, chatml: Path
) -> None:
    file = written(tmp_path, row(), row("And this one?", "A longer answer. " * 60))
    code, out, _ = call(capsys, "dataset", "lint", file, "--model", str(chatml), "--json")
    told = json.loads(out)
    codes = {finding["code"]: finding for finding in told["findings"]}
    assert code == 1
    assert told["counts"]["error"] == 1
    assert codes["too-long"]["line"] == 2
    assert "[[It is." in codes["mask"]["message"]
    longest = len(tokenizer("chatml")("A longer answer. " * 60, add_special_tokens=False)["input_ids"]) + 1
    assert codes["tokens"]["message"].endswith(f"a row, at most {longest}.")
    code, out, _ = call(capsys, "dataset", "lint", file, "--model", str(chatml), "--max-tokens", "2000")
    assert code == 0
    assert "0 errors" in out
