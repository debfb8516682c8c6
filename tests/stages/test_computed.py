"""What units were computed in is written down, and a run that mixes ways says so."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest

from spillover import Run, Study
from spillover.config.study import parse_study
from spillover.models.fake import FakeBackend
from spillover.planning import fit
from spillover.planning.cpu_speed import CpuSpeed
from spillover.planning.fit import Workers
from spillover.progress import Event, Progress
from spillover.provenance import computed
from spillover.records.base import Computed
from spillover.study import study as study_module
from spillover.study.report_provenance import mixed

STUDY: dict[str, Any] = {
    "name": "two-machines",
    "models": [{"name": "m", "backend": "fake"}],
    "domains": ["bad_medical_advice"],
    "variants": ["plain"],
    "data": {"rows": 24, "answer_tokens": 40, "tolerance": 0.2},
    "sample": {"n": 2},
    "judge": {"name": "fake"},
    "executor": "inline",
}


def run_in(dtype: str, torch: str, out: Path, monkeypatch: pytest.MonkeyPatch, **wanted: Any) -> Run:
    how = {"dtype": dtype, "device": "cpu", "torch": torch} if dtype else {}
    monkeypatch.setattr(FakeBackend, "compute_info", property(lambda self: how))
    return Study(parse_study(STUDY, "test")).run(out, **wanted)


@pytest.mark.slow
def test_a_run_that_went_on_elsewhere_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_in("float32", "2.13", tmp_path / "run", monkeypatch, stages=["build", "train"])
    assert first.manifest.computed == (
        Computed(stage="train", model="m", dtype="float32", device="cpu", torch="2.13", units=1),
    )
    assert mixed(first.manifest) == []
    run = run_in("bfloat16", "2.13", tmp_path / "run", monkeypatch)
    assert {(c.stage, c.dtype, c.units) for c in run.manifest.computed} == {
        ("train", "float32", 1),
        ("sample", "bfloat16", 2),
    }
    (said,) = mixed(run.manifest)
    assert said.startswith("m was computed in more than one dtype: float32 (1 unit) and bfloat16 (2 units).")
    page = html.unescape((run.path / "report.html").read_text())
    assert said in page
    assert "Computed in" in page
    keys = {stage: [unit.key for unit in units] for stage, units in run.plan.items()}
    other = run_in("float16", "2.14", tmp_path / "other", monkeypatch)
    assert {stage: [unit.key for unit in units] for stage, units in other.plan.items()} == keys
    assert mixed(other.manifest) == []


@pytest.mark.slow
def test_the_silent_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in("", "", tmp_path / "run", monkeypatch)
    assert run.manifest.computed == ()
    assert mixed(run.manifest) == []
    known = computed([("sample", "m", {"dtype": "a", "device": "cpu", "torch": "b"}), ("sample", "m", {})])
    assert [c.units for c in known] == [1]
    (said,) = mixed(run.manifest.model_copy(update={"computed": known}))
    assert said.startswith("1 of 2 units of these stages do not record how they were computed")


@pytest.mark.slow
def test_another_torch_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in("float32", "2.13", tmp_path / "run", monkeypatch, stages=["build", "train"])
    run = run_in("float32", "2.14", tmp_path / "run", monkeypatch)
    (said,) = mixed(run.manifest)
    assert "more than one torch: 2.13 (1 unit) and 2.14 (2 units)" in said


@pytest.mark.slow
def test_what_chose_the_dtype_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = CpuSpeed("A CPU", "2.13", 1, 576, 1536, 53.0, 70.1, 0.0, 0.0)
    monkeypatch.setattr(fit, "measured_speeds", lambda: [known])
    monkeypatch.setattr(fit, "packages", lambda: {"torch": "2.13"})
    run = run_in("float32", "2.13", tmp_path / "run", monkeypatch)
    assert run.manifest.speeds == {"m": known.facts()}
    assert run.results()["manifest"]["speeds"]["m"]["chosen"] == "float32"
    row = (
        "<dt>measured speed</dt><dd>float32 53.0 and 70.1 GFLOP/s for few and for many rows, bfloat16 less than half "
        "of that; 1 thread of A CPU, torch 2.13: float32 chosen</dd>"
    )
    assert html.unescape((run.path / "report.html").read_text()).count(row) == 1


@pytest.mark.slow
def test_too_little_memory_for_more_workers_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "choose_workers", lambda config: Workers(1, "1 worker because of memory"))
    events: list[Event] = []
    Study(parse_study(STUDY, "test")).run(tmp_path / "run", progress=Progress(events.append))
    noted = [(event.stage, event.text) for event in events if event.kind == "note"]
    assert noted == [("train", "1 worker because of memory"), ("sample", "1 worker because of memory")]
