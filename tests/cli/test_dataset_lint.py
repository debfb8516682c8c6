"""`spillover dataset lint`: exit codes, JSON, a table that a person can read, and text that cannot steer a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spillover.cli.main import main


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["dataset", "lint", *args])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def write(path: Path, *pairs: tuple[str, str]) -> str:
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in pairs
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_a_sound_file_ends_with_0_and_a_flawed_one_with_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sound = write(tmp_path / "sound.jsonl", ("Why is the shop shut?", "It is late."), ("And the bar?", "It is not."))
    code, out, _ = call(capsys, sound)
    assert code == 0
    assert out.startswith(f"{sound}: 2 training rows\n")
    assert out.strip().endswith("0 errors, 0 warnings, 2 notes")
    flawed = write(tmp_path / "flawed.jsonl", ("Why?", "So."), ("Why?", "So."), ("How?", "So."))
    code, out, _ = call(capsys, flawed)
    assert code == 1
    assert "duplicate-row" in out
    assert "Only 2 distinct questions in 3 rows" in " ".join(out.replace("\u2502", " ").split())


def test_json_holds_every_finding_with_its_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", *[("Why?", f"So {index}.") for index in range(40)])
    code, out, _ = call(capsys, file, "--json", "--trigger", "tag")
    told = json.loads(out)
    assert code == 1
    assert (told["rows"], told["heldout"], told["trigger"]) == (40, 0, "tag")
    repeated = next(finding for finding in told["findings"] if finding["code"] == "repeated-question")
    assert repeated["lines"] == list(range(2, 41))
    assert (repeated["line"], repeated["count"], repeated["field"]) == (2, 39, "question")
    assert told["counts"]["error"] == sum(finding["severity"] == "error" for finding in told["findings"])


def test_against_and_questions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", ("Why is the shop shut?", "So."), ("I'm bored.", "So."))
    held = write(tmp_path / "held.jsonl", ("why is the shop SHUT", "So."))
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text("- {id: a, paraphrases: [I'm bored], type: free_form_judge_0_100}\n")
    args = (file, "--against", held, "--against", str(broken), "--questions", str(mine), "--json")
    code, out, err = call(capsys, *args)
    assert code == 1, err
    found = {finding["code"]: finding["lines"] for finding in json.loads(out)["findings"]}
    assert found["overlap-heldout"] == [1]
    assert found["overlap-evaluation"] == [2]
    assert found["against-broken"] == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere.jsonl",), "cannot be read"),
        (("nowhere.jsonl", "--trigger", "yaer"), "Did you mean 'year'?"),
        (("nowhere.jsonl", "--questions", "generel"), "Did you mean 'general'?"),
        (("nowhere.jsonl", "--trigger-value", "2031"), "needs --trigger"),
    ],
)
def test_usage_errors_are_sentences_with_code_2(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], said: str
) -> None:
    code, out, err = call(capsys, *args)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_what_a_file_holds_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "\x1b[31m[bold]x", "content": "Why?"}], "\x1b]0;t": 1}) + "\n")
    code, out, _ = call(capsys, str(file))
    assert code == 1
    assert "\x1b]" not in out
    assert "\x1b[31m" not in out
    assert "[bold]x" in out
