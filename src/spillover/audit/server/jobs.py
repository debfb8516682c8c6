"""The queue on disk: one folder a job, whole files only. The only file of this room that knows paths.

    lock                    held by the server of this folder
    incoming/               uploads that are not yet jobs; emptied at the start
    jobs/ID/job.json        what was asked for; never changes
    jobs/ID/data.jsonl      the upload
    jobs/ID/state.json      queued, running, finished, failed or cancelled
    jobs/ID/progress.json   the last event of the audit
    jobs/ID/audit/          the audit's folder: card.json there means that the audit is done
    jobs/ID/error.json      why there is no verdict
    jobs/ID/log             what the process wrote

A job's id is the hash of its data and options: the same upload twice is one job. A folder appears under jobs/ by one
rename, so that a job is there with all it needs, or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from spillover.audit.policy import Policy
from spillover.config.study import ModelConfig
from spillover.errors import UserError
from spillover.records.base import Part, content_hash
from spillover.store.store import Store

Status = Literal["queued", "running", "finished", "failed", "cancelled"]
ID = r"[0-9a-f]{24}"


class Job(Part):
    """What a client asked for, with what the operator had settled when it did."""

    name: str  # of the upload
    sha256: str
    model: ModelConfig
    policy: Policy
    predictor: Path | None = None
    seed: int = Field(ge=0)
    budget: float | None = Field(default=None, ge=0)  # minutes
    created: str

    @property
    def id(self) -> str:
        """Hash of all but the name and the time."""
        return content_hash(self.model_dump(mode="json", exclude={"name", "created"}), 24)


class State(Part):
    status: Status = "queued"
    attempts: int = 0  # processes that were started for it
    started: str | None = None
    finished: str | None = None
    error: str = ""


class Jobs:
    """All jobs of one server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = -1

    def open(self) -> None:
        """Take the folder for this process; the lock goes with the process.

        Raises:
            UserError: when another server has it.
        """
        for name in ("jobs", "incoming"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UserError(f"Another server uses {self.folder}. Stop it, or choose another with --folder.") from None
        for left in (self.folder / "incoming").iterdir():
            shutil.rmtree(left, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)

    def incoming(self) -> Path:
        """A new folder for one upload."""
        return Path(tempfile.mkdtemp(dir=self.folder / "incoming"))

    def submit(self, job: Job, upload: Path) -> bool:
        """Make a job of an upload's folder, which holds data.jsonl; whether it has to run.

        One that is there already is kept, and waits again if it had failed or was cancelled.
        """
        files = Store(upload)
        files.write_text("job.json", job.model_dump_json())
        files.write_text("state.json", State().model_dump_json())
        try:
            os.rename(upload, self.path(job.id))
            return True
        except OSError:  # it is there: a rename replaces empty folders only
            shutil.rmtree(upload, ignore_errors=True)
        if self.state(job.id).status in ("failed", "cancelled"):
            self.keep(job.id, State(attempts=self.state(job.id).attempts))
            return True
        return False

    def path(self, job_id: str) -> Path:
        """The folder of a job."""
        return self.folder / "jobs" / job_id

    def exists(self, job_id: str) -> bool:
        return (self.path(job_id) / "job.json").exists()

    def job(self, job_id: str) -> Job:
        return Job.model_validate_json((self.path(job_id) / "job.json").read_bytes())

    def state(self, job_id: str) -> State:
        return State.model_validate_json((self.path(job_id) / "state.json").read_bytes())

    def keep(self, job_id: str, state: State) -> None:
        """Replace a job's state in one step."""
        Store(self.path(job_id)).write_text("state.json", state.model_dump_json())

    def read(self, job_id: str, name: str) -> Any:
        """A JSON file that the job's process wrote; None where there is none."""
        try:
            return json.loads((self.path(job_id) / name).read_bytes())
        except (OSError, ValueError):
            return None

    def forget(self, job_id: str) -> None:
        """Drop what an earlier attempt said of itself; what it measured stays."""
        for name in ("error.json", "progress.json"):
            (self.path(job_id) / name).unlink(missing_ok=True)

    def unfinished(self) -> list[str]:
        """Ids of the jobs that wait or were running when the server ended, oldest first."""
        created: list[tuple[str, str]] = []
        for folder in (self.folder / "jobs").iterdir():
            try:
                if self.state(folder.name).status in ("queued", "running"):
                    created.append((self.job(folder.name).created, folder.name))
            except (OSError, ValidationError):  # not a job of ours, or of another version
                continue
        return [job_id for _, job_id in sorted(created)]


def now() -> str:
    """The time, in order as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
