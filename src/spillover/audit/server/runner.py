"""Which job runs when: as many at a time as there are workers, oldest first, each in a process group of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from pathlib import Path

from spillover.audit.policy import Policy, load_policy
from spillover.audit.server.jobs import Jobs, now
from spillover.config.study import ModelConfig

GRACE_S = 5.0  # between asking a process to end and ending it
WORKER = ("-m", "spillover.audit.server.worker")


@dataclass(frozen=True)
class Settings:
    """What the operator has settled; a client can choose among these and add nothing.

    `models`: those that a client may name. `max_budget`: minutes, also of who asks for none.
    """

    folder: Path
    models: dict[str, ModelConfig]
    token: str = field(repr=False)
    policy: Policy = field(default_factory=load_policy)
    workers: int = 1
    max_bytes: int = 50_000_000
    max_queued: int = 1000
    max_budget: float | None = None
    predictor: Path | None = None


class Runner:
    """Lives as long as the server; every change of state is on disk before it counts."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._running: dict[str, Process] = {}
        self._loops: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return self._waiting.qsize()

    @property
    def running(self) -> int:
        return len(self._running)

    def start(self) -> None:
        """Resume the jobs of the last server, then take new ones."""
        for job_id in self.jobs.unfinished():
            if self.jobs.read(job_id, "audit/card.json") is not None:  # the server ended between verdict and state
                self._settle(job_id, 0)
                continue
            self.jobs.keep(job_id, self.jobs.state(job_id).model_copy(update={"status": "queued"}))
            self.add(job_id)
        self._loops = [asyncio.create_task(self._work()) for _ in range(self.settings.workers)]

    async def stop(self) -> None:
        """End the processes; their jobs stay as they are, for the next server."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await asyncio.gather(*(_end(process) for process in self._running.values()))
        self._running.clear()

    def is_running(self, job_id: str) -> bool:
        """Whether a process of the job is there, if only on its way out."""
        return job_id in self._running

    def add(self, job_id: str) -> None:
        """Put a queued job at the end."""
        self._waiting.put_nowait(job_id)

    async def cancel(self, job_id: str) -> bool:
        """Stop a job that waits or runs; False when it has ended."""
        state = self.jobs.state(job_id)
        if state.status not in ("queued", "running"):
            return False
        self.jobs.keep(job_id, state.model_copy(update={"status": "cancelled", "finished": now()}))
        if process := self._running.get(job_id):
            await _end(process)
        return True

    async def _work(self) -> None:
        while True:
            job_id = await self._waiting.get()
            state = self.jobs.state(job_id)
            if state.status != "queued":  # cancelled while it waited
                continue
            started = state.model_copy(
                update={"status": "running", "started": now(), "attempts": state.attempts + 1, "error": ""}
            )
            self.jobs.forget(job_id)
            self.jobs.keep(job_id, started)
            process = await self._process(job_id)
            self._running[job_id] = process
            if self.jobs.state(job_id).status == "cancelled":  # while the process was being made
                await _end(process)
            code = await process.wait()
            del self._running[job_id]
            self._settle(job_id, code)

    async def _process(self, job_id: str) -> Process:
        folder = self.jobs.path(job_id)
        hidden = {name: value for name, value in os.environ.items() if value != self.settings.token}
        with open(folder / "log", "ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *WORKER,
                str(folder),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=hidden,
                start_new_session=True,
            )

    def _settle(self, job_id: str, code: int) -> None:
        state = self.jobs.state(job_id)
        if state.status == "cancelled":
            return
        verdict = self.jobs.read(job_id, "audit/card.json")
        if code == 0 and verdict is not None:
            ended = {"status": "finished"}
        else:
            error = (self.jobs.read(job_id, "error.json") or {}).get("error")
            ended = {"status": "failed", "error": error or f"The audit's process ended with code {code}."}
        self.jobs.keep(job_id, state.model_copy(update=ended | {"finished": now()}))


async def _end(process: Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_S)
