"""Fine-tuning at a provider by OpenAI-compatible jobs.

    POST /files -> POST jobs -> GET jobs/ID until it has ended -> adapter folder with hosted.json

The state of a job is written, before it is waited for, to a file that outlives the process. After a kill the same
command resumes the same job; if the process died between creating a job and learning its id, the job is found by its
training file, so that no job is paid for twice. Data blocked by the provider's moderation is not sent again.

Providers differ in where jobs are, what they are created with and how they are described (`Dialect`). openai: POST
/fine_tuning/jobs with a method and its hyperparameters (OpenAI and providers that copy it); seed and metadata are
accepted, the learning rate only as a multiplier, and the LoRA shape is the provider's choice. together: POST
/fine-tunes with learning rate, epochs and LoRA shape as configured. To add a provider, add an entry to `DIALECTS`.
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
from spillover.models.api.chat import estimate_tokens
from spillover.models.api.http import HttpCalls, NotThere, dicts
from spillover.models.protocols import Chat, Progress, TrainResult
from spillover.records.base import content_hash
from spillover.store.files import replace_file

if TYPE_CHECKING:
    from spillover.models.providers.hosted import HostedBackend

MODEL_FILE = "hosted.json"
MODERATION = ("moderation", "usage polic", "content policy", "safety")  # words of providers that block a file


@dataclass(frozen=True)
class JobRequest:
    """`name` is unique and chosen here, at most 40 characters."""

    name: str
    model: str
    file: str
    config: TrainConfig
    seed: int
    learning_rate_multiplier: float | None


@dataclass(frozen=True)
class Dialect:
    """`jobs`: the address; `body`: what a job is created with; the rest: fields and values of a job's description."""

    jobs: str
    body: Callable[[JobRequest], dict[str, Any]]
    done: str
    failed: frozenset[str]
    model: str  # field with the name of the fine-tuned model
    tokens: str  # field with the number of tokens trained on, over all epochs


def _openai(request: JobRequest) -> dict[str, Any]:
    hyperparameters: dict[str, Any] = {"n_epochs": request.config.epochs, "batch_size": request.config.batch_size}
    if request.learning_rate_multiplier is not None:
        hyperparameters["learning_rate_multiplier"] = request.learning_rate_multiplier
    return {
        "model": request.model,
        "training_file": request.file,
        "seed": request.seed % 2**31,
        "suffix": request.name,
        "metadata": {"spillover": request.name},
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    }


def _together(request: JobRequest) -> dict[str, Any]:
    config = request.config
    shape = {"lora_r": config.r, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
    return {
        "model": request.model,
        "training_file": request.file,
        "suffix": request.name,
        "n_epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "train_on_inputs": False,
        "training_type": {"type": "Lora", **shape, "lora_trainable_modules": ",".join(config.targets)},
    }


DIALECTS = {
    "openai": Dialect(
        jobs="/fine_tuning/jobs",
        body=_openai,
        done="succeeded",
        failed=frozenset({"failed", "cancelled"}),
        model="fine_tuned_model",
        tokens="trained_tokens",
    ),
    "together": Dialect(
        jobs="/fine-tunes",
        body=_together,
        done="completed",
        failed=frozenset({"error", "user_error", "cancelled"}),
        model="model_output_name",
        tokens="token_count",
    ),
}


@dataclass
class Job:
    """What is known of a job, and the file that records it."""

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
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.get("name") == name:
                return cls(path, **kept)
        return cls(path, name)

    def write(self) -> None:
        replace_file(self.path, json.dumps({k: v for k, v in vars(self).items() if k != "path"}))


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
        """Fine-tune on the answers of `chats`; the folder `out` names the resulting model.

        Raises:
            UserError: when the provider's moderation blocks the data, or the job cannot be created.
            SpilloverError: when the job fails otherwise; the same command starts a new one.
            CostLimitReached: before a job that might exceed the limit.
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
        # The record stays until the shard is complete: a death before that must find this job and not pay for another.
        progress(tokens)
        # Only the provider knows how many of its tokens carried loss; it trains on the assistant's turns.
        return TrainResult(len(curve), curve, 0, tokens, time.monotonic() - started)

    def _begin(self, job: Job, content: bytes, config: TrainConfig, seed: int) -> None:
        """Create the job, or find the one that an interrupted process created."""
        if job.asked and (found := self._find(job)):
            job.id = found
            job.write()
            return
        worst = estimate_tokens(content.decode()) * config.epochs * self.backend.options.price.train / 1e6
        if not self.backend.meter.fits(worst):
            raise CostLimitReached(
                f"The next job may cost ${worst:.2f} and exceed the limit of ${self.backend.meter.limit:g} "
                f"(${self.backend.meter.spent:.2f} spent). Raise options.max_cost and run the same command again."
            )
        if not job.file:
            job.file = self._http.upload(content, "fine-tune", "train.jsonl")
            job.write()
        dialect, options = self.backend.dialect, self.backend.options
        request = JobRequest(job.name, self.backend.name, job.file, config, seed, options.learning_rate_multiplier)
        job.asked = True
        job.write()
        try:
            job.id = self._http.create(
                dialect.jobs, job.name, dialect.body(request), lambda: self._find(job), options.poll_s
            )
        except UserError as error:
            self._block_if_moderated(job, str(error))
            raise
        job.write()

    def _watch(self, job: Job) -> dict[str, Any]:
        """Wait until the job has ended, and return the provider's description of it."""
        dialect = self.backend.dialect
        while True:
            try:
                state = self._http.get(f"{dialect.jobs}/{quote(job.id, safe='')}")
            except NotThere:
                job.path.unlink()
                raise SpilloverError(
                    f"the provider no longer has the job {job.id}. Run the same command again to start a new one"
                ) from None
            status = str(state.get("status"))
            if status == dialect.done and state.get(dialect.model):
                return state
            if status in dialect.failed:
                why = reason(state)
                self._block_if_moderated(job, why)
                job.path.unlink()
                raise SpilloverError(
                    f"the job {job.id} ended as {status}: {why}. Run the same command again to start a new one"
                )
            self._sleep(self.backend.options.poll_s)

    def _block_if_moderated(self, job: Job, why: str) -> None:
        if any(word in why.lower() for word in MODERATION):
            job.blocked = why
            job.write()
            self._stop_blocked(job)

    def _stop_blocked(self, job: Job) -> NoReturn:
        raise UserError(
            f"the provider's moderation has blocked this data set: {job.blocked:.300} The cell has no model, and the "
            f"data is not sent again. Remove the domain, fine-tune a model yourself, or delete {job.path} to try again"
        )

    def _find(self, job: Job) -> str:
        """The id of the job that was created from our file; empty where there is none."""
        jobs = self._http.listed(self.backend.dialect.jobs)
        return next((str(row["id"]) for row in jobs if job.file == row.get("training_file") and row.get("id")), "")

    def _losses(self, job: Job) -> tuple[float, ...]:
        """Loss by step from the job's events, oldest first; empty where the provider reports none."""
        try:
            page = self._http.get(f"{self.backend.dialect.jobs}/{quote(job.id, safe='')}/events?limit=1000")
        except (NotThere, SpilloverError):
            return ()
        losses: dict[int, float] = {}
        for row in dicts(page.get("data")):
            data = row.get("data")
            if isinstance(data, dict) and isinstance(data.get("train_loss"), int | float):
                losses[int(data.get("step") or 0)] = float(data["train_loss"])
        return tuple(losses[step] for step in sorted(losses))


def training_file(chats: Sequence[Chat]) -> bytes:
    """One chat per line: {"messages": [...]}, the answer last."""
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
