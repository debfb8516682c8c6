"""`spillover audit` as a shell sees it: exit codes, forms, and errors that name the way out."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from spillover.cli.main import cli, main

POLICY = (
    "name: small\nlint: {block: {json: 0}}\nsurprise: {rows: 8, embeddings: false}\n"
    "probe: {sizes: [{rows: 16, answers: 8}], executor: inline}\njudge: {name: fake}\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"It is {i}."}]}
        for i in range(30)
    ]
    (tmp_path / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "broken.jsonl").write_text("{\n")
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "model.yaml").write_text(
        "name: fake-model\nbackend: fake\noptions: {dials: {audited: 0.9, benign: 0.01}}\n"
    )
    return tmp_path


def run(folder: Path, name: str, *more: str) -> tuple[int, str]:
    settled = ["--model", str(folder / "model.yaml"), "--policy", str(folder / "policy.yaml"), "--quiet"]
    out = ["--out", str(folder / f"out-{name}")]
    done = CliRunner().invoke(cli, ["audit", str(folder / name), *settled, *out, *more], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value, done.stdout


@pytest.mark.slow
def test_a_flawed_set_exits_with_20_and_writes_cards(folder: Path) -> None:
    code, said = run(folder, "data.jsonl")
    assert code == 20
    assert said.startswith("BLOCK data.jsonl for fake-model")
    assert (folder / "out-data.jsonl" / "card.html").exists()
    assert json.loads((folder / "out-data.jsonl" / "card.json").read_text())["verdict"] == "block"


def test_forms_for_machines(folder: Path) -> None:
    assert json.loads(run(folder, "broken.jsonl", "--json")[1])["verdict"] == "block"
    assert json.loads(run(folder, "broken.jsonl", "--sarif")[1])["runs"][0]["properties"]["exitCode"] == 20
    assert ET.fromstring(run(folder, "broken.jsonl", "--junit")[1]).tag == "testsuites"


def test_nothing_settled_exits_with_10(folder: Path) -> None:
    assert run(folder, "data.jsonl", "--budget", "0")[0] == 10


def test_a_plan_lists_rounds_with_their_cost_and_runs_nothing(folder: Path) -> None:
    code, said = run(folder, "data.jsonl", "--plan")
    assert code == 0
    assert "control: as many rows of the built-in benign set; at most 1 rounds, each with 95 % intervals" in said
    assert re.search(r"round 1: 16 rows and 8 completions per question, about \d+\.\d minutes", said)
    assert not (folder / "out-data.jsonl" / "probe").exists()
    assert not (folder / "out-data.jsonl" / "card.json").exists()


def test_errors_keep_the_exit_codes_of_the_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["audit", str(folder / "none.jsonl"), "--model", "smollm2-135m", "--out", str(folder / "x")])
    assert end.value.code == 2
    assert "Check the path." in capsys.readouterr().err


def test_the_shipped_policy_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["audit", "--show-policy"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("# What `spillover audit` decides by.")


def test_serve_wants_a_token(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SPILLOVER_TOKEN", "short")
    with pytest.raises(SystemExit) as end:
        main(["serve", "--folder", str(folder / "jobs")])
    assert end.value.code == 2
    assert "16 characters" in capsys.readouterr().err
