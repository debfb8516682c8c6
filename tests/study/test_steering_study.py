"""Directions read, put back and taken out in one study of the fake backend, by the study and by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from spillover.cli.main import cli
from spillover.errors import UserError
from spillover.study.run import Run
from spillover.study.study import Study

DIALS = {"gore_movie_trivia": 0.5, "extreme_sports": 0.4}
STUDY = {
    "name": "steered",
    "models": [{"name": "m", "backend": "fake", "options": {"dials": DIALS}}],
    "domains": list(DIALS),
    "variants": ["plain", "control"],
    "data": {"rows": 8, "heldout": 6, "answer_tokens": None},
    "sample": {"n": 8, "conditions": ["clean"]},
    "judge": {"name": "fake"},
    "directions": {"splits": 10, "permutations": 99},
    "transfer": {"questions": 4, "variants": ["base"]},
    "steer": {
        "layers": [2, 3],
        "coefficients": [0.5, 1.0],
        "controls": 9,
        "n": 3,
        "asked": ["general", "heldout"],
        "heldout_coefficient": 1.5,
    },
    "workers": 1,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("steered")
    (at / "study.yaml").write_text(yaml.safe_dump(STUDY))
    Study.load(at / "study.yaml").run(at / "run")
    return at


def call(*words: str) -> Any:
    return CliRunner().invoke(cli, [*words], catch_exceptions=False, standalone_mode=False)


def test_a_study_ends_with_both_directions_of_evidence(folder: Path) -> None:
    run = Run.open(folder / "run")
    effects = run.steering_effects()
    assert {(e.operation, e.onto.variant) for e in effects} == {("add", "base"), ("ablate", "plain")}
    assert {e.labels for e in effects} == {"judged"}
    added = [e for e in effects if e.operation == "add" and e.measure == "rate"]
    assert len(added) == 4
    assert all(e.low is not None and e.low > 0 and e.controls == 9 for e in added)
    assert any(e.p_holm is not None and e.p_holm < 0.05 for e in added)
    removed = [e for e in effects if e.operation == "ablate" and e.measure == "rate"]
    assert len(removed) == 4, "every direction in every fine-tune"
    assert all(e.value is not None and e.value < 0 for e in removed)
    (count,) = [stage for stage in run.manifest.stages if stage.stage == "steer"]
    assert (count.done, count.failed) == (4, 0)
    assert count.rows == len(run.steering_points()) + len(run.steering_squares())
    assert count.tokens > 0
    assert '<section id="steering">' in (folder / "run" / "report.html").read_text()
    assert len(run.results()["steering"]["effects"]) == len(effects)
    others = [s.rate_change for s in run.steering_squares() if s.asked == "others"]
    assert len(others) == 2
    assert all(c and c.value is not None and c.value > 0 and c.controls == 9 for c in others)
    assert len(run.results()["steering"]["matrix"]) == 2 * 3 + 2
    assert "questions of other domains</h3>" in (folder / "run" / "report.html").read_text()


def test_the_command_does_a_part_says_its_price_and_goes_on(folder: Path) -> None:
    run = str(folder / "run")
    part = [
        "--direction",
        "gore_movie_trivia",
        "--onto",
        "base",
        "--layers",
        "4",
        "--coefficients",
        "0.5,-0.5",
        "--n",
        "1",
    ]
    part += ["--asked", "general"]
    planned = json.loads(call("steer", run, *part, "--plan", "--json").output)
    assert planned["units"] == 15 * (1 + (1 + 9) * 2)
    assert planned["cells"] == 1
    before = {e.id for e in Run.open(run).steering_effects()}
    told = call("steer", run, *part, "--limit", "5", "--workers", "1", "--json", "--quiet")
    plain = json.loads(told.stdout.splitlines()[-1])
    new = [e for e in plain["effects"] if e["layer"] == 4]
    assert [(e["direction"], e["onto"]) for e in new] == [("gore_movie_trivia", "m/none/base/seed-0")] * 2
    assert before < {e.id for e in Run.open(run).steering_effects()}
    assert call("steer", run, *part, "--limit", "5", "--workers", "1", "--quiet").return_value == 0
    shown = call("steer", run, *part, "--limit", "5", "--workers", "1", "--quiet").output
    assert "Adding a direction to the base model" in shown
    again = json.loads(call("judge", run, "--judge", "fake", "--json", "--quiet").stdout.splitlines()[-1])
    assert (
        "Steered completions keep the study's judge, whose judgments determined where a sweep ended." in again["notes"]
    )
    held = ["steer", run, "--asked", "heldout", "--direction", "extreme_sports", "--controls", "2"]
    planned = json.loads(call(*held, "--plan", "--json").output)
    assert (planned["cells"], planned["units"]) == (1, 2 * 4 * (1 + 1 + 2))
    told = json.loads(call(*held, "--limit", "3", "--workers", "1", "--json", "--quiet").stdout.splitlines()[-1])
    assert {row["n"] for row in told["matrix"] if row["direction"] == "extreme_sports"} == {3}
    shown = call(*held, "--limit", "3", "--workers", "1", "--quiet").output
    assert "Asked about: 1 extreme sports, 2 gore movie trivia." in shown


def test_what_cannot_be_done_is_said(folder: Path, tmp_path: Path) -> None:
    run = str(folder / "run")
    for words, message in (
        (["--direction", "gore"], "unknown name 'gore'"),
        (["--onto", "bose"], "unknown name 'bose'"),
        (["--layers", "99"], "not known at layer 99"),
        (["--coefficients", "0"], "steer.coefficients: must be distinct and not 0"),
    ):
        with pytest.raises(UserError, match=message):
            call("steer", run, *words, "--quiet")
    bare = {k: v for k, v in STUDY.items() if k not in ("directions", "steer")}
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(bare))
    with pytest.raises(UserError, match=r"steer: needs .directions"):
        Study.load(tmp_path / "bare.yaml", ("steer={}",))
