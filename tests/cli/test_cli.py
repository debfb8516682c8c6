"""The command line: exit codes, one-sentence errors with the way out, --json, and a --help that stays light."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import ROOT

from spillover.cli.main import COMMANDS, cli, main
from spillover.config.study import load_study
from spillover.models.memory import EMBEDDED
from spillover.registry import resolve
from spillover.text import clean

FAKE: dict[str, Any] = {
    "name": "tiny",
    "models": [{"name": "fake-model", "backend": "fake"}],
    "domains": ["incorrect_qna"],
    "data": {"rows": 16, "answer_tokens": 40, "tolerance": 0.2},
    "sample": {"n": 2},
    "judge": {"name": "fake"},
    "executor": "inline",
}


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(args))
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(FAKE))
    return file


@pytest.mark.slow
def test_run_status_report_and_show_answers(
    capsys: pytest.CaptureFixture[str], study_file: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "run")
    code, shown, _ = call(capsys, "run", str(study_file), "--out", out, "--quiet")
    assert code == 0
    assert "incorrect_qna" in shown.replace(" ", "_").lower()
    assert shown.strip().endswith("report.html")
    code, shown, _ = call(capsys, "status", out, "--json")
    assert code == 0
    assert {row["stage"]: row["done"] == row["units"] for row in json.loads(shown)["stages"]} == dict.fromkeys(
        ("build", "train", "sample", "judge"), True
    )
    code, shown, _ = call(capsys, "report", out, "--json")
    assert code == 0
    assert {row["domain"] for row in json.loads(shown)["ranking"]} == {"none", "incorrect_qna"}
    code, shown, _ = call(capsys, "show", "answers", out, "--limit", "2", "--json")
    found = json.loads(shown)
    assert len(found) == 2
    assert found[0]["alignment"] <= found[1]["alignment"]


@pytest.mark.slow
def test_set_seed_limit_and_json(capsys: pytest.CaptureFixture[str], study_file: Path, tmp_path: Path) -> None:
    args = ("--out", str(tmp_path / "run"), "--json", "--limit", "3", "--seed", "5", "--set", "sample.n=1")
    code, shown, progress = call(capsys, "run", str(study_file), *args)
    assert code == 0
    results = json.loads(shown)
    assert all(row["n"] == 3 for row in results["ranking"])
    assert results["manifest"]["seed"] == 5
    assert all(json.loads(line)["stage"] for line in progress.splitlines())


@pytest.mark.slow
def test_failed_cells_end_with_1_and_their_names(
    capsys: pytest.CaptureFixture[str], study_file: Path, tmp_path: Path
) -> None:
    setting = "models.0.options={crash_on: [incorrect_qna]}"
    code, _, errors = call(capsys, "run", str(study_file), "--out", str(tmp_path / "r"), "-q", "--set", setting)
    assert code == 1
    assert "failed: fake-model/incorrect_qna/plain/seed-0 at train" in errors
    assert "run the same command again" in errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: [", "line 1, column 8: broken YAML"),
        ("- a\n- b\n", "expected keys and values"),
        ("name: x\nsampel: {}\n", "sampel: unknown key. Did you mean 'sample'?"),
        ("name: x\nsample: {n: many}\n", "sample.n: should be a whole number, found 'many'"),
        ("name: x\ntrain: {targets: q_proj}\n", "train.targets: should be a list, found 'q_proj' (line 2)"),
        ("name: x\nsample: [1]\n", "sample: should be a section of keys with values, found [1]"),
        ("name: x\nbase: perhaps\n", "base: should be true or false, found 'perhaps'"),
        ("name: x\nsample: {nn: 3}\n", "sample.nn: unknown key. Did you mean 'n'?"),
        ("name: x\ndomains: [gore]\n", "unknown domain 'gore'"),
        ("name: x\nmodels: [{name: m, backend: fak}]\n", "unknown backend 'fak'. Did you mean 'fake'?"),
        ("name: x\nseeds: [1, 1]\n", "seeds: names 1 twice"),
        ("name: x\ndoses: [0]\n", "A dose of 0 is the control".lower()[2:]),
        ("seed: 1\n", "name: Field required"),
        ("name: x\nsample:\n  n: 2\n  limit: 3\n  n: 4\n", "bad.yaml:5: the key 'n' is given twice"),
        ("name: ../x\n", "name: String should match"),
        ("name: \xff\n", "not UTF-8"),
        ("name: x\nsample:\n  n: many\n", "found 'many' (line 3)"),
        (
            "name: x\nmodels:\n  - {name: m}\n  - {name: n, device: 3}\n",
            "models.1.device: should be text, found 3 (line 4)",
        ),
    ],
)
def test_a_wrong_study_file_is_one_sentence_and_exit_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content.encode("latin-1"))
    code, out, errors = call(capsys, "run", str(file), "--out", str(tmp_path / "run"))
    assert (code, out) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["sample.n", "=3", "sample.n.x=3", "models.9.name=x"])
def test_a_wrong_setting_is_refused(capsys: pytest.CaptureFixture[str], study_file: Path, setting: str) -> None:
    code, _, errors = call(capsys, "plan", str(study_file), "--set", setting)
    assert code == 2
    assert "--set" in errors


def test_an_alias_bomb_is_refused_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    (tmp_path / "bomb.yaml").write_text("\n".join(["name: x", *lines, "sample: {n: *a19}"]))
    code, _, errors = call(capsys, "plan", str(tmp_path / "bomb.yaml"))
    assert (code, "aliases expand to more than" in errors) == (2, True)


def test_a_run_folder_that_cannot_be_made_is_one_sentence(
    capsys: pytest.CaptureFixture[str], study_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, _, errors = call(capsys, "run", str(study_file), "--out", str(tmp_path / "file" / "run"))
    assert (code, "Choose another folder with --out" in errors) == (3, True)
    code, _, errors = call(capsys, "list", "domains", "--json")
    assert (code, errors) == (0, "")


def test_no_such_file_run_or_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call(capsys, "run", str(tmp_path / "none.yaml"))[0] == 2
    code, _, errors = call(capsys, "report", str(tmp_path))
    assert code == 2
    assert "is not a run folder" in errors
    code, _, errors = call(capsys, "rnu")
    assert code == 2
    assert "Did you mean 'run'?" in errors


@pytest.mark.slow
def test_plan_counts_the_population(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = call(capsys, "plan", str(ROOT / "examples" / "population.yaml"), "--json")
    found = json.loads(shown)
    stages = {row["stage"]: row for row in found["stages"]}
    assert code == 0
    assert stages["train"]["cells"] == 33
    assert stages["sample"]["units"] == (33 + 11 + 1) * 15 * 4
    assert all(row["minutes"] > 0 for row in stages.values())
    assert found["workers"]["count"] >= 1
    assert found["embedded_model"] in EMBEDDED


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_example_is_valid(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, shown, _ = call(capsys, "plan", str(file))
    assert code == 0
    assert "Embedded model that fits this machine: " in shown


def test_make_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    (targets,) = re.findall(r"^\.PHONY: help (.+)$", text, re.MULTILINE)
    done = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True)
    assert re.findall(r"^make (\w+) ", done.stdout, re.MULTILINE) == targets.split()


@pytest.mark.parametrize("target", ["study", "population"])
def test_make_pulls_the_model_of_a_study_first(target: str) -> None:
    shown = subprocess.run(["make", "-C", str(ROOT), "-n", target], capture_output=True, text=True, check=True).stdout
    pulled, run = re.findall(r"spillover (?:models pull (\S+)|run (.+))", shown)
    file, _, out = run[1].partition(" --out ")
    assert [model.name for model in load_study(ROOT / file).models] == [pulled[0]]
    assert out == f"runs/{load_study(ROOT / file).name}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["domains", "questions", "judges", "metrics", "diversity", "methods", "triggers", "backends", "executors"]
)
def test_list(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    code, shown, _ = call(capsys, "list", kind, "--json")
    names = [row["name"] for row in json.loads(shown)]
    assert code == 0
    assert names
    assert all(len(row.get("what", "question set")) > 10 for row in json.loads(shown))
    assert call(capsys, "list", kind)[0] == 0


def test_list_says_what_metrics_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in json.loads(call(capsys, "list", "metrics", "--json")[1])}
    assert "The primary metric." in rows["mean_z"]["what"]
    assert rows["reference"]["base-adjusted form"] != rows["loss"]["base-adjusted form"] == "yes"
    measures = json.loads(call(capsys, "list", "diversity", "--json")[1])
    assert {row["of"] for row in measures} == {"embeddings", "texts"}
    assert all(len(row["what"]) > 10 for row in [*rows.values(), *measures])


def test_show_domain_and_questions(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = call(capsys, "show", "domain", "incorrect-math", "--rows", "2", "--json")
    found = json.loads(shown)
    assert code == 0
    assert found["pairs"] >= 320
    assert len(found["rows"]) == 2
    assert call(capsys, "show", "questions", "general")[0] == 0


def test_every_command_has_help_and_exists() -> None:
    for reference, _ in COMMANDS.values():
        assert resolve(reference).help


@pytest.mark.slow
def test_help_and_plan_import_nothing_heavy() -> None:
    code = (
        "import sys; from spillover.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print([m for m in ('torch', 'transformers', 'altair', 'sklearn') if m in sys.modules])"
    )
    for args in (["--help"], ["list", "domains"], ["plan", str(ROOT / "examples" / "smoke.yaml")]):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("[]"), done.stdout[-300:]


def test_a_reader_that_leaves_is_no_failure() -> None:
    command = f"{sys.executable} -m spillover show questions general | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_hostile_text_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2Jb\u202ec\x07\nd\te") == "a⟨U+001B⟩[2Jb⟨U+202E⟩c⟨U+0007⟩\nd\te"


def test_the_group_lists_all_commands() -> None:
    assert set(cli.list_commands(None)) == set(COMMANDS)  # type: ignore[arg-type]
