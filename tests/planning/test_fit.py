"""Workers, embedded models and dtypes are chosen by what this machine has and what was measured on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spillover import Study
from spillover.config.study import StudyConfig, parse_study
from spillover.execution.base import Pool
from spillover.planning import cost, cpu_speed, fit
from spillover.planning.cpu_speed import CpuSpeed
from spillover.planning.fit import Workers, choices_of_dtype, choose_workers, embedded_model_that_fits
from spillover.provenance import GIB

QWEN = {"name": "qwen2.5-coder-0.5b", "dtype": "float32"}
SMALL = {"preset": "small", "micro_batch_tokens": 512}


def study(**changes: Any) -> StudyConfig:
    return parse_study({"name": "s", "models": [QWEN], "train": SMALL, **changes}, "test")


def gib(**changes: Any) -> float:
    config = study(**changes)
    return fit._worker_gib(config, config.models[0])  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "cores", lambda: 4)
    monkeypatch.setattr(fit, "hardware", lambda: {"gpu": "none"})


def available(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(fit, "available_bytes", lambda: int(gib * GIB))


def test_a_worker_needs_about_what_was_measured() -> None:
    """Resident memory: 0.5B in float32 2.4 GiB at rest and 5 to 6.2 in training, the smallest model 1.2 at rest."""
    smallest = study(models=[{"name": "smollm2-135m", "dtype": "float32"}])
    for config, at_rest in ((study(), 2.4), (smallest, 1.2)):
        loaded = cost.worker_memory(config, cost.count_parameters(config.models[0]))[0]
        assert loaded == pytest.approx(at_rest, rel=0.1)
    assert 4.5 <= cost.worker_memory(study(), 494_005_120)[1] <= 5.0
    assert gib() == pytest.approx(6.2, rel=0.05)  # two workers of examples/embedded.yaml, measured
    assert gib(models=[QWEN | {"dtype": "bfloat16"}]) < gib() < gib(train=SMALL | {"micro_batch_tokens": 1024})


@pytest.mark.parametrize(("room", "count"), [(0.9, 1), (1.2, 1), (2.1, 1), (2.3, 2), (3.3, 2), (9.0, 4)])
def test_as_many_workers_as_memory_holds_with_a_tenth_to_spare(
    room: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`room`: available memory in workers; below one of them even the one worker may run out."""
    available(monkeypatch, room * gib())
    found = choose_workers(study())
    assert found.count == count
    if count == 4:
        assert not found.note
    else:
        who = "1 worker" if count == 1 else f"{count} workers"
        assert found.note.startswith(f"{who} for 4 cores because of memory: a worker needs about 6.")
        assert found.note.endswith(f"and {room * gib():.1f} GiB are available")


def test_too_little_memory_for_a_single_worker_is_noted_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "cores", lambda: 1)
    available(monkeypatch, 3)
    assert choose_workers(study()).note
    available(monkeypatch, 8)
    assert choose_workers(study()) == Workers(1)


def test_the_largest_model_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"name": "smollm2-135m", "dtype": "float32"}
    available(monkeypatch, 16)
    assert choose_workers(study(models=[small])).count == 3
    assert choose_workers(study(models=[small, QWEN])) == choose_workers(study()) == choose_workers(study())
    assert choose_workers(study()).count == 2


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"workers": 3}, 3),
        ({"models": [{"name": "f", "backend": "fake"}]}, 4),
        ({"models": [{"name": "m", "path": "some/model-7B"}]}, 1),
        ({"executor": "ray"}, 4),
        ({"executor": "inline"}, 4),
    ],
)
def test_memory_limits_no_other_choice(changes: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    available(monkeypatch, 1)
    assert choose_workers(study(**changes)) == Workers(count)


def test_the_memory_of_a_gpu_is_not_this(monkeypatch: pytest.MonkeyPatch) -> None:
    available(monkeypatch, 1)
    monkeypatch.setattr(fit, "hardware", lambda: {"gpu": "NVIDIA H100 80GB HBM3, 81559 MiB, 580.65.06"})
    assert choose_workers(study()) == Workers(4)


@pytest.mark.parametrize(
    ("room", "name"),
    [
        (12.0, "qwen2.5-coder-1.5b"),
        (11.9, "qwen2.5-coder-0.5b"),
        (5.0, "qwen2.5-coder-0.5b"),
        (4.9, "smollm2-135m"),
        (0.0, "smollm2-135m"),
    ],
)
def test_the_embedded_model_for_the_memory(room: float, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    available(monkeypatch, room)
    assert embedded_model_that_fits() == (name, pytest.approx(room))


def speed(threads: int, **changes: Any) -> CpuSpeed:
    return replace(CpuSpeed("C", "2", threads, 896, 4864, 53.0, 70.1, 90.0, 150.0), **changes)


def test_the_manifest_keeps_the_measurement_that_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [speed(1), speed(2, bfloat16_many=0.0), speed(4, torch="1"), speed(3, inner=1)]
    monkeypatch.setattr(fit, "measured_speeds", lambda: known)
    monkeypatch.setattr(fit, "packages", lambda: {"torch": "2"})
    auto = study(models=[{"name": "qwen2.5-coder-0.5b"}])
    here = {"qwen2.5-coder-0.5b"}
    found = choices_of_dtype(auto, here, 1)["qwen2.5-coder-0.5b"]
    assert (found["chosen"], found["threads"], found["bfloat16_many"]) == ("bfloat16", "1", "150.0")
    assert choices_of_dtype(auto, here, 2)["qwen2.5-coder-0.5b"]["chosen"] == "float32"
    assert choices_of_dtype(auto, here, 8)["qwen2.5-coder-0.5b"]["threads"] == "1"  # none with as many
    assert choices_of_dtype(auto, set(), 1) == {}  # nothing was computed on a processor
    assert choices_of_dtype(study(), here, 1) == {}  # the study names the dtype
    assert choices_of_dtype(auto.model_copy(update={"executor": "ray"}), here, 1) == {}
    known.clear()
    assert choices_of_dtype(auto, here, 1) == {}


def test_one_worker_is_planned_with_all_its_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))
    measured: list[int] = []

    def measure(hidden: int, inner: int, threads: int) -> CpuSpeed:
        measured.append(threads)
        return speed(threads)

    monkeypatch.setattr(cost, "measure_in_subprocess", measure)
    for workers in (1, 2):
        measured.clear()
        Study(study(workers=workers, judge={"name": "fake"})).plan()
        assert measured == [Pool(workers).threads]
    assert cpu_speed.cache_dir() == tmp_path
