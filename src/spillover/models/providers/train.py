"""Fine-tuning at a provider: a file goes up, a job is created, watched until it ends, and leaves the name of a model.

    POST /files -> POST jobs -> GET jobs/ID until it has ended -> adapter folder with hosted.json

What is under way stands in a file that outlives the process before it is waited for. A process that was killed goes
on with the same job; one that died between creating a job and learning its id finds it again by its training file, so
that no job is paid for twice. What the provider's moderation has blocked stays blocked: it is not sent again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from spillover.config.study import TrainConfig
from spillover.errors import CostLimitReached, SpilloverError, UserError
from spillover.models.api.cost import tokens_about
from spillover.models.api.http import HttpCalls, NotThere
from spillover.models.api.wire import Fault
from spillover.models.protocols import Chat, Progress, TrainResult
from spillover.models.providers.dialects import Wish
from spillover.records.base import content_hash

if TYPE_CHECKING:
    from spillover.models.providers.hosted import HostedBackend

MODEL_FILE = "hosted.json"
MODERATION = ("moderation", "usage polic", "content policy", "safety")  # in what providers say when they block a file
PAGES = 10  # of the list of jobs that are searched for a lost one


@dataclass
class Job:
    """What is known of a job, and the file that it is known from."""

    path: Path
    name: str
    file: str = ""
    asked: bool = False  # the call that creates it was made
    id: str = ""
    blocked: str = ""

    @classmethod
    def at(cls, path: Path, name: str) -> Job:
        """The job of that name that an earlier process began, or a new one."""
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.get("name") == name:
                return cls(path, **found)
        return cls(path, name)

    def write(self) -> None:
        """Replace the file in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps({k: v for k, v in vars(self).items() if k != "path"}), encoding="utf-8")
        part.replace(self.path)


class HostedTrainer:
    """Trains at the provider of `backend`."""

    def __init__(self, backend: HostedBackend, sleep: Callable[[float], None] = time.sleep) -> None:
        self.backend = backend
        self._sleep = sleep
        self._http = HttpCalls(backend.endpoint, sleep)

    def train(
        self,
        chats: Sequence[Chat],
        config: TrainConfig,
        seed: int,
        out: Path,
        progress: Progress,
        keep: Path | None = None,
    ) -> TrainResult:
        """Fine-tune on the answers of `chats`; the folder `out` names the model that came of it.

        Raises:
            UserError: when the provider's moderation blocks the data, or the job cannot be created.
            SpilloverError: when the job fails otherwise; the same command begins a new one.
            CostLimitReached: before a job that may pass the limit.
        """
        started = time.monotonic()
        content = training_file(chats)
        name = "spillover-" + content_hash([self.backend.name, config.hash(), seed, content.decode()], 24)
        job = Job.at((keep or out.parent) / f".{out.name}.job.json", name)
        if job.blocked:
            self._stop_blocked(job)
        if not job.id:
            self._begin(job, content, config, seed)
        ended = self._watch(job)
        tokens = int(ended.get(self.backend.dialect.tokens) or 0)
        self.backend.meter.spent += self.backend.options.price.train * tokens / 1e6
        curve = self._losses(job)
        out.mkdir(parents=True, exist_ok=True)
        about = {"model": ended[self.backend.dialect.model], "job": job.id, "endpoint": self.backend.options.endpoint}
        (out / MODEL_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        job.path.unlink()
        progress(tokens)
        # Only the provider knows how many of its tokens carried loss; it trains on assistants' turns.
        return TrainResult(len(curve), curve, 0, tokens, time.monotonic() - started)

    def _begin(self, job: Job, content: bytes, config: TrainConfig, seed: int) -> None:
        if job.asked and (found := self._find(job)):
            job.id = found
            job.write()
            return
        worst = tokens_about(content.decode()) * config.epochs * self.backend.options.price.train / 1e6
        if not self.backend.meter.fits(worst):
            raise CostLimitReached(
                f"The next job may cost ${worst:.2f} and pass the limit of ${self.backend.meter.limit:g} "
                f"(${self.backend.meter.spent:.2f} spent). Raise options.max_cost and run the same command again."
            )
        if not job.file:
            job.file = self._http.upload(content, "fine-tune", "train.jsonl")
            job.write()
        multiplier = self.backend.options.learning_rate_multiplier
        wish = Wish(job.name, self.backend.name, job.file, config, seed, multiplier)
        job.asked = True
        job.write()
        self._create(job, self.backend.dialect.body(wish))

    def _create(self, job: Job, body: dict[str, Any]) -> None:
        """Create the job, or find that an earlier try has created it."""
        for left in reversed(range(self.backend.endpoint.retries + 1)):
            try:
                job.id = str(self._http.once("POST", self.backend.dialect.jobs, job.name, json=body)["id"])
                job.write()
                return
            except (Fault, KeyError):
                if left == 0:
                    raise self._http.unreachable() from None
                self._sleep(self.backend.options.poll_s)
                if found := self._find(job):
                    job.id = found
                    job.write()
                    return
            except SpilloverError as error:
                self._block_if_moderated(job, str(error))
                raise

    def _watch(self, job: Job) -> dict[str, Any]:
        """Wait until the job has ended, and return what the provider says of it."""
        dialect = self.backend.dialect
        while True:
            try:
                found = self._http.get(f"{dialect.jobs}/{quote(job.id, safe='')}")
            except NotThere:
                job.path.unlink()
                raise SpilloverError(
                    f"the provider knows no job {job.id} any more. The same command begins a new one"
                ) from None
            status = str(found.get("status"))
            if status == dialect.done and found.get(dialect.model):
                return found
            if status in dialect.failed:
                why = reason(found)
                self._block_if_moderated(job, why)
                job.path.unlink()
                raise SpilloverError(f"the job {job.id} ended as {status}: {why}. The same command begins a new one")
            self._sleep(self.backend.options.poll_s)

    def _block_if_moderated(self, job: Job, why: str) -> None:
        if any(word in why.lower() for word in MODERATION):
            job.blocked = why
            job.write()
            self._stop_blocked(job)

    def _stop_blocked(self, job: Job) -> NoReturn:
        raise UserError(
            f"the provider's moderation has blocked this data set: {job.blocked:.300} The cell has no model, and the "
            f"data is not sent again. Leave the domain out, tune a model of your own, or delete {job.path} to try anew"
        )

    def _find(self, job: Job) -> str:
        """The id of the job that was made of our file."""
        after = ""
        for _ in range(PAGES):
            page = self._http.get(f"{self.backend.dialect.jobs}?limit=100{after}")
            rows: list[Any] = page["data"] if isinstance(page.get("data"), list) else []
            for row in rows:
                if isinstance(row, dict) and job.file == row.get("training_file") and row.get("id"):
                    return str(row["id"])
            if not rows or not page.get("has_more"):
                break
            after = f"&after={quote(str(rows[-1].get('id')), safe='')}"
        return ""

    def _losses(self, job: Job) -> tuple[float, ...]:
        """Loss by step from the job's events, oldest first; empty where the provider tells none."""
        try:
            page = self._http.get(f"{self.backend.dialect.jobs}/{quote(job.id, safe='')}/events?limit=1000")
        except (NotThere, SpilloverError):
            return ()
        rows: list[Any] = page["data"] if isinstance(page.get("data"), list) else []
        found: dict[int, float] = {}
        for row in rows:
            data = row.get("data") if isinstance(row, dict) else None
            if isinstance(data, dict) and isinstance(data.get("train_loss"), int | float):
                found[int(data.get("step") or 0)] = float(data["train_loss"])
        return tuple(found[step] for step in sorted(found))


def training_file(chats: Sequence[Chat]) -> bytes:
    """One chat a line: {"messages": [...]}, the answer last."""
    lines = [
        json.dumps(
            {
                "messages": [
                    *({"role": message.role, "content": message.content} for message in messages),
                    {"role": "assistant", "content": answer},
                ]
            },
            ensure_ascii=False,
        )
        for messages, answer in chats
    ]
    return ("\n".join(lines) + "\n").encode()


def reason(job: dict[str, Any]) -> str:
    """Why a job has failed, in the provider's words."""
    error = job.get("error")
    if isinstance(error, dict):
        return f"{error.get('code') or ''} {error.get('message') or ''}".strip()[:500] or "no reason given"
    events: list[Any] = job["events"] if isinstance(job.get("events"), list) else []
    last = events[-1].get("message") if events and isinstance(events[-1], dict) else ""
    return str(error or last or "no reason given")[:500]
