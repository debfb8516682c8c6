"""A cluster of several machines, all of them this one: calls survive workers and machines, rows are those of one run.

Each machine is a raylet of its own with a worker or two; to kill it takes its workers with it, as a power cut does.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from spillover import Run, Study
from spillover.config.study import ClusterConfig, parse_study
from spillover.errors import MachineError, UserError
from spillover.execution.base import Call, Pool, Ticker
from spillover.records.base import Completion

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
from ray.cluster_utils import Cluster  # noqa: E402

from spillover.execution import ray as executor_module  # noqa: E402

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
STORE_BYTES = 80 * 2**20  # the least that Ray takes
FAKE: dict[str, Any] = {"name": "fake-model", "backend": "fake", "options": {"delay_s": 0.01}}
STUDY: dict[str, Any] = {
    "name": "cluster",
    "models": [FAKE, FAKE | {"name": "other-model"}],
    "domains": ["bad_medical_advice"],
    "data": {"rows": 24, "answer_tokens": 40, "tolerance": 0.2},
    "sample": {"n": 4},
    "judge": {"name": "fake"},
}


class Machines:
    """Raylets that come and go; the first one holds the driver, has no worker and stays."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        self.killed = 0
        for _ in range(3):
            self.add()

    def add(self) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, wait=False))

    def kill(self, rng: random.Random) -> None:
        node = self.nodes.pop(rng.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.killed += 1


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    made = Machines()
    yield made
    made.cluster.shutdown()
    patch.undo()


def workers() -> list[int]:
    """Processes of this machine that are workers of the executor."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::Worker"):
            found.append(int(folder.name))
    return found


def square(number: int, ticker: Ticker) -> int:
    ticker(number)
    return number * number


def refuse(ticker: Ticker) -> None:
    raise UserError("not this one")


def die_once(marker: str, ticker: Ticker) -> str:
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die(ticker: Ticker) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def rows(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.glob("rows/**/*.jsonl"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The rows of an unbroken run in one process."""
    path = tmp_path_factory.mktemp("whole") / "run"
    Study(parse_study(STUDY | {"executor": "inline"}, "test")).run(path)
    return rows(path)


def on(machines: Machines, **more: Any) -> ClusterConfig:
    return ClusterConfig(address=machines.cluster.address, **more)


def test_outcomes_errors_ticks_and_lost_workers(machines: Machines, tmp_path: Path) -> None:
    calls = [Call(str(n), "test_ray:square", (n,), group="ab"[n % 2]) for n in range(6)]
    calls += [Call("bad", "test_ray:refuse", ()), Call("once", "test_ray:die_once", (str(tmp_path / "marker"),))]
    calls += [Call("always", "test_ray:die", ())]
    witness = tmp_path / "lock"
    witness.write_text("as the driver left it")
    executor = executor_module.open_executor(Pool(2, cluster=on(machines), witness=witness))
    ticks: list[int] = []
    try:
        outcomes = {outcome.call.name: outcome for outcome in executor.run(calls, ticks.append)}
    finally:
        executor.close()
    assert [outcomes[str(n)].value for n in range(6)] == [0, 1, 4, 9, 16, 25]
    assert isinstance(outcomes["bad"].error, UserError)
    assert outcomes["once"].value == "alive"
    assert isinstance(outcomes["always"].error, MachineError)
    assert sum(ticks) == 15


def test_what_cannot_work_is_one_sentence(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [Call("a", "test_ray:square", (1,), gpu=True)]
    witness = tmp_path / "lock"
    witness.write_text("as the driver left it")
    executor = executor_module.open_executor(Pool(1, cluster=on(machines), witness=witness))
    try:
        witness.write_text("of another folder")
        with pytest.raises(MachineError, match=r"does not see the run folder .* all machines share"):
            list(executor.run(calls, print))
    finally:
        executor.close()
    monkeypatch.setattr(executor_module, "PATIENCE_S", 0.0)
    executor = executor_module.open_executor(Pool(1, cluster=on(machines, gpus=2)))
    try:
        with pytest.raises(MachineError, match=r"enough resources for one worker \(1 CPU, 2 GPU\)"):
            list(executor.run(calls, print))
    finally:
        executor.close()
    with pytest.raises(MachineError, match=r"No Ray cluster answers at '127\.0\.0\.1:1' .*refused"):
        executor_module.open_executor(Pool(1, cluster=ClusterConfig(address="127.0.0.1:1")))
    with pytest.raises(UserError, match="log in there"):
        executor_module.open_executor(Pool(1, cluster=ClusterConfig(address="ray://far:10001")))


def test_machines_are_killed_at_random_and_the_rows_are_those_of_one_process(
    machines: Machines, whole: dict[str, bytes], tmp_path: Path
) -> None:
    rng, workers_killed, before = random.Random(5), 0, machines.killed
    config = parse_study(STUDY | {"executor": "ray", "cluster": {"address": machines.cluster.address}}, "test")
    ray.init(address=machines.cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        full = [ray.put(np.zeros(10 * 2**20, np.uint8)) for _ in range(7)]  # the object store is as good as full
        with ThreadPoolExecutor(1) as thread:
            study = thread.submit(Study(config).run, tmp_path / "run")
            while not wait([study], timeout=0.3 + 0.7 * rng.random()).done:
                if workers_killed < 2 and rng.random() < 0.5 and (alive := workers()):
                    os.kill(rng.choice(alive), signal.SIGKILL)
                    workers_killed += 1
                elif machines.killed - before < 3:
                    machines.kill(rng)
                    machines.add()
            run = study.result()
        del full
    finally:
        ray.shutdown()
    print(f"{machines.killed - before} machines and {workers_killed} workers killed")
    assert machines.killed - before >= 2
    assert not run.manifest.failures
    assert run.manifest.complete
    assert rows(tmp_path / "run") == whole
    ids = [row.id for row in run.completions()]
    assert len(ids) == len(set(ids)) == 2 * 5 * 15 * 4
    assert not list((tmp_path / "run").glob("rows/**/*.open"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that takes the data sets and some answers."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_is_said_and_loses_nothing(machines: Machines, whole: dict[str, bytes], small_disk: Path) -> None:
    config = parse_study(STUDY | {"executor": "ray", "cluster": {"address": machines.cluster.address}}, "test")
    with pytest.raises(MachineError, match="No space left on the disk"):
        Study(config).run(small_disk / "run")
    kept = {name: content for name, content in rows(small_disk / "run").items() if content}
    assert kept
    assert kept.items() <= whole.items(), "what has its name is whole"
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    Study(config).run(small_disk / "run")
    assert rows(small_disk / "run") == whole


def test_a_lost_driver_takes_its_workers_along_and_a_local_run_goes_on(
    machines: Machines, whole: dict[str, bytes], tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    command = [sys.executable, "-m", "spillover", "run", str(file), "--out", str(tmp_path / "run"), "--quiet"]
    driver = subprocess.Popen([*command, "--executor", "ray", "--address", machines.cluster.address])
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run").glob("rows/sample/*.open")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    assert workers()
    driver.kill()
    driver.wait()
    while workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers()
    begun = Run.open(tmp_path / "run").store
    assert list((tmp_path / "run").glob("rows/sample/*")), "the run was under way"
    Study(parse_study(STUDY | {"executor": "inline"}, "test")).run(tmp_path / "run")
    assert rows(tmp_path / "run") == whole
    assert begun.read_manifest().complete


def test_a_cluster_goes_on_where_a_local_run_stopped(
    machines: Machines, whole: dict[str, bytes], tmp_path: Path
) -> None:
    local = Study(parse_study(STUDY | {"executor": "inline"}, "test"))
    local.run(tmp_path / "run", stages=["build", "train"], models=["fake-model"])
    unit = local.units["sample"][1]
    before = rows(tmp_path / "run")
    with local.run(tmp_path / "run", stages=["build"]).store.shard("sample", unit.key, Completion) as shard:
        first = whole[f"rows/sample/{unit.key}.jsonl"].splitlines()[:7]
        shard.append(*(Completion.model_validate_json(line) for line in first))
    config = parse_study(STUDY | {"executor": "ray", "cluster": {"address": machines.cluster.address}}, "test")
    Study(config).run(tmp_path / "run")
    assert before.items() <= rows(tmp_path / "run").items()
    assert rows(tmp_path / "run") == whole
