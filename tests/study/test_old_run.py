"""A run folder of a version from before the move into layers (old_run/README.md) still opens and resumes.

The reference is what the old version itself reported: its results.json and what its `rank --json` printed.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spillover import Run
from spillover.cli.main import cli
from spillover.records.base import content_hash
from spillover.report import charts

HERE = Path(__file__).parent / "old_run"
STUDY_FILES = ("study.yaml", "garden.csv", "kitchen.csv")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with the old run, what the old version reported of it, and its study file."""
    with tarfile.open(HERE / "run.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    for name in STUDY_FILES:
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def call(*words: str | Path) -> str:
    """What a command prints; it must succeed."""
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every number, text, truth value and None in plain data, by its place."""
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    else:
        return {path: value}
    return {place: leaf for key, part in parts for place, leaf in leaves(part, f"{path}/{key}").items()}


def same(now: Any, was: Any) -> bool:
    """Whether plain data is the same, numbers to a billionth: another machine may add them up in another order."""
    a, b = leaves(now), leaves(was)
    numbers = {place for place in b if isinstance(b[place], float)}
    return a.keys() == b.keys() and all(
        a[place] == (pytest.approx(b[place], rel=1e-9, abs=1e-12) if place in numbers else b[place]) for place in b
    )


def shards(run: Path) -> dict[str, tuple[int, bytes]]:
    """Finished work, with the time at which it was written; what is computed from it is left out."""
    files = [path for folder in ("rows", "adapters") for path in sorted((run / folder).rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(run)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in files
        if path.parent.name != "rank"
    }


def test_every_result_is_read_as_the_old_version_reported_it(old: Path) -> None:
    was = json.loads((old / "results.json").read_text())
    now = json.loads(json.dumps(Run.open(old / "run").results()))
    hashed = {name for name in was if isinstance(was[name], str)}
    assert hashed == {"membership", "susceptibility", "diversity"}
    for name in was:
        assert (content_hash(now[name]) if name in hashed else now[name]) == was[name], name
    for name in ("ranking", "trigger_effect", "gate", "echo", "transfer", "membership", "diversity", "susceptibility"):
        assert now[name], name
    assert all(now["directions"][name] for name in ("summaries", "aucs", "profiles", "cosines"))
    assert all(now["steering"][name] for name in ("effects", "points"))


def test_status_shows_every_stage_complete(old: Path) -> None:
    shown = json.loads(call("status", old / "run", "--json"))
    assert not shown["failures"]
    assert all(stage["done"] == stage["units"] > 0 for stage in shown["stages"])
    assert [line.split()[-1] for line in call("status", old / "run").splitlines()] == ["complete"] * 9


@pytest.mark.slow
def test_rank_computes_the_numbers_that_the_old_version_printed(old: Path) -> None:
    was = json.loads((old / "rank.json").read_text())
    now = json.loads(call("rank", old / "run", "--json"))
    assert same(now, was)
    assert "62.5 [25.9, 88.8]" in call("rank", old / "run")


def test_show_answers_starts_with_the_most_misaligned(old: Path) -> None:
    shown = json.loads(call("show", "answers", old / "run", "--limit", "200", "--json"))
    ranking = json.loads((old / "rank.json").read_text())["ranking"]
    assert len(shown) == sum(score["n"] for score in ranking) == 88
    scores = [row["alignment"] for row in shown]
    assert scores == sorted(scores)
    assert sum(row["alignment"] < 30 for row in shown) >= sum(score["misaligned"] for score in ranking) > 0
    assert "garden/plain" in call("show", "answers", old / "run", "--domain", "garden", "--limit", "50")


@pytest.mark.slow
def test_report_is_written_with_the_numbers_of_the_old_version(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = charts.Figure("<svg></svg>", "<svg></svg>", 1, 1)
    monkeypatch.setattr(charts, "figure", lambda draw, title, rows: drawn)  # drawing takes most of the time
    monkeypatch.setattr(charts, "svg", lambda spec, title: drawn.wide)
    assert "62.5 [25.9, 88.8]" in call("report", old / "run")
    was = json.loads((old / "results.json").read_text())
    now = json.loads((old / "run" / "results.json").read_text())
    for name in was:
        if not isinstance(was[name], str):
            assert same(now[name], was[name]), name
    assert "<h1" in (old / "run" / "report.html").read_text()


@pytest.mark.slow
def test_the_same_study_resumes_without_redoing_finished_work(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.study.run.write_page", lambda data, page: page)  # the test above writes it
    before = shards(old / "run")
    printed = call("run", old / "study.yaml", "--out", old / "run")
    assert "to do" not in printed
    assert shards(old / "run") == before
    assert Run.open(old / "run").manifest.complete
