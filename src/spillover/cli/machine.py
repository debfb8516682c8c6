"""`spillover doctor` and `spillover env`: whether this machine has what a study needs, and what it is."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import click

from spillover.cli.run_command import (
    as_json_option,
    print_json,
)
from spillover.errors import MachineError
from spillover.planning.cpu_speed import MANY, CpuSpeed, measured_speeds
from spillover.planning.fit import embedded_model_that_fits
from spillover.planning.gpus import detect_gpu
from spillover.provenance import GIB, environment, hardware, memory_bytes, packages

STYLES = {"ok": "green", "warn": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the examination; `fix` is a command or advice, empty where all is well."""

    name: str
    state: Literal["ok", "warn", "missing"]
    found: str
    fix: str = ""


def examine(folder: Path) -> Iterator[Check]:
    """Every check in order; `folder` is where runs will be written."""
    yield check_python(sys.version_info[:2], platform.python_version())
    yield check_packages(packages())
    for name in ("smollm2-135m", "minilm"):
        yield check_weights(name)
    yield check_room("disk", shutil.disk_usage(folder).free, 2, 10, "free some disk space, or choose another --out")
    yield check_room("memory", memory_bytes(), 2, 4, "use --set workers=1")
    yield check_model()
    machine = hardware()
    installed = packages().get("torch", "")
    measured = [speed for speed in measured_speeds() if speed.torch == installed]
    yield check_cpu(machine, measured[-1] if measured else None)
    yield check_card(machine["gpu"], installed)
    yield check_extra("bitsandbytes", "quantized", "quantize: 4bit")
    yield check_extra("vllm", "vllm", "backend: vllm")
    yield check_extra("s3fs", "s3", "--mirror s3://...")


def check_python(version: tuple[int, ...], text: str) -> Check:
    """Python 3.11 or newer."""
    if version >= (3, 11):
        return Check("python", "ok", text)
    return Check("python", "missing", text, "install Python 3.11, then: make study PYTHON=python3.11")


def check_packages(installed: dict[str, str]) -> Check:
    """Every package that spillover requires outside extras is installed."""
    wanted = [line.split(">=")[0] for line in requires("spillover") or () if "extra" not in line]
    absent = [name for name in wanted if name not in installed]
    if absent:
        return Check("packages", "missing", f"not installed: {', '.join(absent)}", f"pip install {' '.join(absent)}")
    return Check("packages", "ok", f"torch {installed['torch']}, transformers {installed['transformers']}")


def check_cpu(machine: dict[str, str], measured: CpuSpeed | None) -> Check:
    """The processor, and which dtype is faster on it by the latest measurement, if there is one."""
    found = f"{machine['cpu']}, {machine['cores']} cores"
    if measured is None:
        state = "ok" if machine["cpu_bf16"] == "yes" else "warn"
        advice = "the first plan or run times both once; dtype auto is the faster one"
        return Check("cpu", state, f"{found}; float32 and bfloat16 not timed yet", advice if state == "warn" else "")
    half = f"{measured.bfloat16_many:g}" if measured.bfloat16_many else f"less than half of {measured.float32_many:g}"
    found += (
        f"; GFLOP/s in products of {MANY} x {measured.hidden} x {measured.inner}: float32 {measured.float32_many:g}, "
        f"bfloat16 {half}"
    )
    if measured.faster_dtype == "bfloat16":
        return Check("cpu", "ok", found)
    advice = "dtype auto is float32 here, the faster one as measured: twice the memory of bfloat16"
    return Check("cpu", "warn", found, advice)


def check_card(gpu: str, torch: str) -> Check:
    """A graphics card, and a build of torch that can use it."""
    found = detect_gpu(gpu)
    if found is None:
        return Check("gpu", "ok", "none (not needed for embedded models; needed above 1 billion parameters)")
    if torch.endswith("+cpu"):
        return Check("gpu", "warn", f"{gpu}; torch {torch} cannot use it", "install a build of torch for CUDA")
    peak = f"{found.teraflops:g} TFLOP/s in bfloat16" if found.teraflops else "unknown peak, planned as an H100"
    return Check("gpu", "ok", f"{gpu}; {peak}")


def check_extra(package: str, extra: str, use: str) -> Check:
    """A package that one setting of a model needs."""
    try:
        return Check(package, "ok", version(package))
    except PackageNotFoundError:
        return Check(package, "ok", f"not installed; only {use} needs it: pip install 'spillover[{extra}]'")


def check_weights(name: str) -> Check:
    """The embedded model `name` is in the cache and its hashes are right."""
    from spillover.models.embedded.weights import verify

    try:
        verify(name)
    except MachineError as error:
        found = str(error).partition(" Run: ")[0]
        return Check(f"weights {name}", "missing", found, f"spillover models pull {name}")
    return Check(f"weights {name}", "ok", "present, hashes match")


def check_model() -> Check:
    """The embedded model that fits the available memory."""
    from spillover.models.embedded.weights import present

    name, available = embedded_model_that_fits()
    pull = "" if present(name) else f"; to download it: spillover models pull {name}"
    return Check("embedded model", "ok", f"{name} fits {available:.1f} GiB of available memory{pull}")


def check_room(name: str, have: int, least: int, enough: int, fix: str) -> Check:
    """At least `least` GiB, better `enough`."""
    found = f"{have / GIB:.1f} GiB"
    if have < least * GIB:
        return Check(name, "missing", f"{found}, at least {least} needed", fix)
    if have < enough * GIB:
        return Check(name, "warn", f"{found}, {enough} recommended", fix)
    return Check(name, "ok", found)


@click.command()
@as_json_option
def doctor(as_json: bool) -> int:
    """Check this machine and show how to fix problems; exit code 3 if something required is missing."""
    checks = list(examine(Path.cwd()))
    if as_json:
        print_json([asdict(check) for check in checks], indent=2)
    else:
        for check in checks:
            state = click.style(f"{check.state:<8}", fg=STYLES[check.state])
            click.echo(f"{state}{check.name:<22}{check.found}" + (f"\n{'':30}-> {check.fix}" if check.fix else ""))
    return 3 if any(check.state == "missing" for check in checks) else 0


@click.command()
@as_json_option
def env(as_json: bool) -> None:
    """Print versions, commit and hardware; no host name, user name or path."""
    facts = environment()
    if as_json:
        print_json(facts, indent=2)
        return
    packages = facts.pop("packages")
    sections = {"": {key: value for key, value in facts.items() if isinstance(value, str)}, **facts}
    for title in ("", "git", "hardware"):
        for key, value in sections[title].items():
            click.echo(f"{f'{title}.{key}'.lstrip('.'):<24}{value}")
    click.echo("packages                " + " ".join(f"{name}=={version}" for name, version in packages.items()))
