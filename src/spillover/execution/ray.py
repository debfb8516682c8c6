"""Run calls on the machines of a Ray cluster: one worker a slot of cores and graphics cards, kept between calls.

Ray says which machines there are, starts workers on them and tells when one is gone; which call goes where is decided
here (placement.py), so that a worker serves many cells of the base model that it has loaded. A call whose worker was
lost, with its machine or alone, is given to another. Rows are written by the workers into the run folder, whose disk
all machines share, and never travel through Ray; store/shard.py keeps them whole when a worker that was given up
writes on.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from spillover.errors import MachineError, MissingExtra, SpilloverError, UserError
from spillover.execution.base import Call, Outcome, Pool, Ticker
from spillover.execution.heap import give_back_memory, keep_memory
from spillover.execution.placement import TaskQueue
from spillover.provenance import GIB
from spillover.registry import resolve

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as absent:
    raise MissingExtra.of("ray", "ray") from absent

TICK_S = 1.0
TRIES = 4  # workers that a call may lose: a machine may go, and another; a call that kills its worker ends here
PATIENCE_S = 60.0  # for the first machine with room
REACH_S = 10.0  # for a cluster's address
LOOK_S = 2.0  # between two looks at which machines there are


class Worker:
    """What runs on the machines: one process, with whatever its calls have loaded."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)  # one for all calls: each thread would have a pool of threads of its own
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        keep_memory()

    def check(self, folder: str, release: str, witness: str, content: bytes) -> None:
        """Work where the driver does; refuse where that cannot go well."""
        node = ray.get_runtime_context().get_node_id()[:12]
        if release != version("spillover"):
            raise MachineError(
                f"Machine {node} of the cluster has spillover {version('spillover')}, the driver {release}. "
                "Install the same version."
            )
        if os.path.isdir(folder):
            os.chdir(folder)
        if witness and not (os.path.exists(witness) and Path(witness).read_bytes() == content):
            raise MachineError(
                f"Machine {node} of the cluster does not see the run folder {os.path.dirname(witness)}. "
                "Choose a folder with --out on a disk that all machines share, under the same path."
            )

    def perform(self, function: str, args: tuple[Any, ...]) -> Generator[Any]:
        """Token counts while the call runs, then (value, error)."""
        ticks: SimpleQueue[int] = SimpleQueue()
        call = self._thread.submit(lambda: resolve(function)(*args, ticks.put))
        while True:
            ended = wait([call], timeout=TICK_S).done
            if tokens := sum(ticks.get() for _ in range(ticks.qsize())):
                yield tokens
            if ended:
                break
        give_back_memory()
        error = call.exception()
        yield (None, _portable(error)) if error else (call.result(), None)


def _portable(error: BaseException) -> Exception:
    """The error itself where it can travel, else its words."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return SpilloverError(f"{type(error).__name__}: {error}")


@dataclass(eq=False)
class _WorkerHandle:
    """A worker as the driver sees it: its actor, and the group that it has loaded."""

    actor: Any
    group: str | None = None


class RayExecutor:
    """Workers on a cluster that this process is connected to."""

    def __init__(self, pool: Pool, connected: bool) -> None:
        self._pool, self._connected = pool, connected
        self._witness = (str(pool.witness), pool.witness.read_bytes()) if pool.witness else ("", b"")
        self._resources = self._resources_per_worker(gpu=False)
        self._queue: TaskQueue[Call] = TaskQueue()
        self._starting: dict[Any, _WorkerHandle] = {}  # by what its check will return
        self._idle: list[_WorkerHandle] = []
        self._busy: dict[Any, tuple[_WorkerHandle, Call]] = {}  # by the stream of what its call yields
        self._capacity, self._looked_at = 0, 0.0

    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        """Yield the outcome of every call as it ends."""
        self._release_unsuited_workers(any(call.gpu for call in calls))
        for call in calls:
            self._queue.add(call.group, call)
        lost: Counter[str] = Counter()
        while self._queue or self._busy:
            ticker(0)
            self._start_workers()
            while self._queue and self._idle:
                self._assign_call(self._idle.pop())
            for ref in _wait_for_any([*self._busy, *self._starting]):
                if ref in self._starting:
                    self._worker_started(ref)
                    continue
                handle, call = self._busy[ref]
                try:
                    result = ray.get(next(ref))
                except RayError:  # the worker or its machine is gone, or cannot be reached
                    del self._busy[ref]
                    self._stop_worker(handle)
                    lost[call.name] += 1
                    if lost[call.name] < TRIES:
                        self._queue.put_back(call.group, call)
                    else:
                        yield Outcome(call, error=_worker_lost_error())
                    continue
                if isinstance(result, int):
                    ticker(result)
                else:
                    del self._busy[ref]
                    self._idle.append(handle)
                    yield Outcome(call, *result)

    def close(self) -> None:
        """Stop the workers; those in the middle of a call at once, and whatever they had written stays."""
        for handle in (*self._idle, *self._starting.values(), *(handle for handle, _ in self._busy.values())):
            ray.kill(handle.actor)
        if self._connected:
            ray.shutdown()

    def _release_unsuited_workers(self, gpu: bool) -> None:
        """Stop the workers that lack a resource of the next calls, or hold more than they need."""
        if self._resources_per_worker(gpu) != self._resources:
            self._resources, self._looked_at = self._resources_per_worker(gpu), 0.0
            for handle in (*self._idle, *self._starting.values()):
                self._stop_worker(handle)
            self._idle, self._starting = [], {}

    def _resources_per_worker(self, gpu: bool) -> dict[str, float]:
        """The resources that one worker takes of a machine, in Ray's names."""
        cluster = self._pool.cluster
        gpus = 0.0
        if gpu:
            gpus = float("GPU" in ray.cluster_resources()) if cluster.gpus == "auto" else cluster.gpus
        return {"CPU": cluster.cpus, "GPU": gpus, "memory": cluster.memory_gib * GIB}

    def _start_workers(self) -> None:
        """Start as many workers as there are calls for and machines have room for."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_S:
            self._capacity, self._looked_at = self._count_slots(), now
        running = len(self._idle) + len(self._starting) + len(self._busy)
        wanted = min(len(self._queue) + len(self._busy), self._capacity)
        if not self._pool.auto:
            wanted = min(wanted, self._pool.workers)
        worker: Any = ray.remote(Worker)
        for _ in range(wanted - running):
            options = {
                "num_cpus": self._resources["CPU"],
                "num_gpus": self._resources["GPU"],
                "memory": self._resources["memory"],
            }
            actor = worker.options(**options, scheduling_strategy="SPREAD").remote()
            self._starting[actor.check.remote(os.getcwd(), version("spillover"), *self._witness)] = _WorkerHandle(actor)

    def _count_slots(self) -> int:
        """How many workers the machines hold that are there now.

        Raises:
            MachineError: when no machine has room for one, after some patience.
        """
        deadline = time.monotonic() + PATIENCE_S
        needs = {name: amount for name, amount in self._resources.items() if amount}
        while True:
            machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            slots = sum(min(int(has.get(name, 0.0) / amount) for name, amount in needs.items()) for has in machines)
            if slots or self._busy or self._idle:
                return slots
            if time.monotonic() > deadline:
                resources = ", ".join(f"{amount:g} {name}" for name, amount in needs.items())
                raise MachineError(
                    f"No machine of the cluster has enough resources for one worker ({resources}). "
                    "Add machines, or lower cluster.cpus, cluster.gpus or cluster.memory_gib in the study file."
                )
            time.sleep(TICK_S)

    def _worker_started(self, ref: Any) -> None:
        handle = self._starting.pop(ref)
        try:
            ray.get(ref)
        except RayTaskError as error:  # its check failed, and would on the next machine too
            raise error.cause from None
        except RayError:
            self._stop_worker(handle)
        else:
            self._idle.append(handle)

    def _assign_call(self, handle: _WorkerHandle) -> None:
        handle.group, call = self._queue.take(handle.group)
        stream = handle.actor.perform.options(num_returns="streaming").remote(call.function, call.args)
        self._busy[stream] = (handle, call)

    def _stop_worker(self, handle: _WorkerHandle) -> None:
        self._queue.release(handle.group)
        self._looked_at = 0.0
        ray.kill(handle.actor)


def _wait_for_any(refs: list[Any]) -> list[Any]:
    """The references with a result: all of them, after waiting for the first."""
    if not refs:
        time.sleep(TICK_S)
        return []
    if first := ray.wait(refs, num_returns=1, timeout=TICK_S)[0]:
        return ray.wait(refs, num_returns=len(refs), timeout=0)[0] or first
    return []


def _worker_lost_error() -> MachineError:
    return MachineError(
        f"the worker process or its machine was lost, {TRIES} times (out of memory?). Its finished rows are safe. "
        "Give each worker more, as with --set cluster.memory_gib=16, then run the same command again"
    )


def open_executor(pool: Pool) -> RayExecutor:
    """Connect to the cluster that the study file or RAY_ADDRESS names, or start one on this machine."""
    address = pool.cluster.address or os.environ.get("RAY_ADDRESS")
    if address and address.startswith("ray://"):
        raise UserError(
            f"cluster.address: {address} is an address for remote clients. The driver must run on a machine of the "
            "cluster, "
            "where the run folder is: log in there, or use `ray job submit`, with --address auto."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    connect = not ray.is_initialized()
    if connect:
        try:
            if address and ":" in address:  # Ray itself would try for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            raise MachineError(
                f"No Ray cluster answers at {address!r} ({str(error).splitlines()[0]}). "
                "Start one with `ray start --head`, or leave the address out to use this machine alone."
            ) from None
    return RayExecutor(pool, connect)
