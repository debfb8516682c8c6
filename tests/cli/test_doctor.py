"""The doctor says what is missing, names the command that mends it, and ends with 3 when a study cannot run."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

from spillover import provenance
from spillover.cli import machine as doctor_module
from spillover.cli.machine import (
    Check,
    check_card,
    check_cpu,
    check_extra,
    check_model,
    check_packages,
    check_python,
    check_room,
    check_weights,
    doctor,
    env,
)
from spillover.planning.cpu_speed import CpuSpeed
from spillover.provenance import GIB


def test_python_before_3_11_is_missing() -> None:
    assert check_python((3, 11), "3.11.0").state == "ok"
    assert check_python((3, 14), "3.14.0").state == "ok"
    assert check_python((3, 10), "3.10.9").fix.endswith("make study PYTHON=python3.11")


def test_absent_packages_are_named() -> None:
    found = dict(provenance.packages())
    assert check_packages(found).state == "ok"
    del found["peft"], found["gguf"]
    check = check_packages(found)
    assert (check.state, check.found, check.fix) == (
        "missing",
        "not installed: gguf, peft",
        "pip install gguf peft",
    )


def test_absent_weights_name_the_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))
    check = check_weights("minilm")
    assert (check.state, check.fix) == ("missing", "spillover models pull minilm")
    assert "Run:" not in check.found


@pytest.mark.parametrize(("gib", "state"), [(1.9, "missing"), (2.0, "warn"), (9.9, "warn"), (10.0, "ok")])
def test_room_has_two_thresholds(gib: float, state: str) -> None:
    assert check_room("disk", int(gib * GIB), 2, 10, "free some").state == state


@pytest.mark.parametrize(("states", "code"), [(("ok", "warn"), 0), (("ok", "missing"), 3)])
def test_exit_code_and_json(
    states: tuple[Literal["ok", "warn", "missing"], ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [Check(f"c{place}", state, "found", "fix it") for place, state in enumerate(states)]
    monkeypatch.setattr(doctor_module, "examine", lambda folder: iter(checks))
    shown = CliRunner().invoke(doctor, ["--json"], standalone_mode=False)
    assert shown.return_value == code
    assert [row["state"] for row in json.loads(shown.output)] == list(states)
    plain = CliRunner().invoke(doctor, standalone_mode=False)
    assert plain.output.count("-> fix it") == len(states)


def test_a_machine_without_bfloat16_is_warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))  # no measurement yet
    monkeypatch.setattr(doctor_module, "check_weights", lambda name: Check(name, "ok", ""))
    facts = {"cpu": "Old", "cores": "2", "cpu_bf16": "no", "gpu": "none"}
    monkeypatch.setattr(doctor_module, "hardware", lambda: facts)
    checks = {check.name: check for check in doctor_module.examine(Path.cwd())}
    assert checks["cpu"].state == "warn"
    assert checks["gpu"].state == "ok"


def test_the_processor_is_judged_by_what_was_measured() -> None:
    machine = {"cpu": "Old", "cores": "2", "cpu_bf16": "yes"}
    assert check_cpu(machine, None).state == "ok"
    speed = CpuSpeed("Old", "2", 2, 64, 128, 100.0, 160.0, 150.0, 212.5)
    faster = check_cpu({**machine, "cpu_bf16": "no"}, speed)
    assert (faster.state, faster.fix) == ("ok", "")
    assert faster.found.endswith("products of 512 x 64 x 128: float32 160, bfloat16 212.5")
    slower = check_cpu(machine, replace(speed, bfloat16_few=0.0, bfloat16_many=0.0))
    assert slower.state == "warn"
    assert slower.found.endswith("float32 160, bfloat16 less than half of 160")
    assert "dtype auto is float32 here" in slower.fix


def test_the_embedded_model_that_fits_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))
    monkeypatch.setattr("spillover.planning.fit.available_bytes", lambda: 6 * GIB)
    check = check_model()
    assert (check.state, check.fix) == ("ok", "")
    assert check.found.startswith("qwen2.5-coder-0.5b fits 6.0 GiB of available memory")
    assert check.found.endswith("spillover models pull qwen2.5-coder-0.5b")


def test_a_card_with_a_processor_build_of_torch_is_warned() -> None:
    line = "NVIDIA H100 80GB HBM3, 81559 MiB, 580.65.06"
    assert check_card("none", "2.13.0+cpu").state == "ok"
    assert check_card(line, "2.13.0+cpu").state == "warn"
    assert check_card(line, "2.13.0").found == f"{line}; 989 TFLOP/s in bfloat16"
    assert "planned as an H100" in check_card("NVIDIA Strange, 1024 MiB, 1", "2.13.0+cu130").found


def test_extras_say_who_needs_them() -> None:
    assert check_extra("numpy", "x", "nothing").found == version("numpy")
    absent = check_extra("nonesuch-package", "vllm", "backend: vllm")
    assert (absent.state, absent.found) == (
        "ok",
        "not installed; only backend: vllm needs it: pip install 'spillover[vllm]'",
    )


def test_env_prints_the_same_facts_both_ways() -> None:
    as_json = json.loads(CliRunner().invoke(env, ["--json"]).output)
    plain = CliRunner().invoke(env).output
    assert as_json["packages"]["numpy"] in plain
    assert f"lock_hash{'':15}{as_json['lock_hash']}" in plain
    assert as_json["hardware"]["cpu"] in plain
