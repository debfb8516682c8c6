"""One job in a process of its own: `python -m spillover.audit.server.worker FOLDER SERVER_PID`.

A crash here is a failed job and not a dead server. The process leaves when its server dies, and holds the job's lock
while it lives, so that no job ever has two; what it measured stays in the audit's folder, from which the next attempt
resumes.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from spillover.audit.audit import Auditor, AuditRequest
from spillover.audit.server.jobs import Job
from spillover.errors import SpilloverError
from spillover.progress import Event, Progress, at_most_every
from spillover.store.store import Store

TICK_S = 0.25
PATIENCE_S = 20.0  # for the lock of a process that is on its way out


def main(folder: Path, server: int) -> int:
    """Reach the job's verdict, or write down why there is none."""
    threading.Thread(target=_exit_with_server, args=(server,), daemon=True).start()
    files = Store(folder)
    with open(folder / "process.lock", "w") as lock:
        _wait_for(lock.fileno())
        with open(folder / "attempts", "a") as log:
            log.write(f"started {os.getpid()}\n")
        job = Job.model_validate_json((folder / "job.json").read_bytes())
        request = AuditRequest(
            folder / "data.jsonl", job.model, job.policy, job.predictor, job.budget, job.seed, job.name
        )

        def show(event: Event) -> None:
            row = asdict(event) | {"seconds_left": event.seconds_left}
            files.write_json("progress.json", row)

        try:
            Auditor(request, folder / "audit", Progress(at_most_every(1.0, show))).run()
        except SpilloverError as error:
            files.write_json("error.json", {"error": str(error)})
            return error.exit_code
        with open(folder / "attempts", "a") as log:
            log.write(f"done {os.getpid()}\n")
    return 0


def _exit_with_server(server: int) -> None:
    while os.getppid() == server:
        time.sleep(TICK_S)
    os._exit(1)


def _wait_for(lock: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(TICK_S)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
