"""A provider of fine-tuning on the loopback address: files, jobs in two dialects, chat completions, faults, and books.

Faults depend on the call and on how often it was tried, so that two runs meet the same ones. Answers carry the scores
that the fake judge reads.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from fault_server import Server, draw

LOOKS = 2  # at a job before it has ended
FAULTS = ("429", "500", "503", "cut", "malformed")
BLOCKED = {"code": "invalid_training_file", "message": "The file was blocked by our moderation system."}
ENDS = {
    "succeeded": {"openai": "succeeded", "together": "completed"},
    "failed": {"openai": "failed", "together": "error"},
    "blocked": {"openai": "failed", "together": "user_error"},
}


class Provider:
    """`fates`: how jobs to come end; `filtered`: share of answers that the filter keeps back."""

    def __init__(self, fail: float = 0.0, filtered: float = 0.0, delay_s: float = 0.0) -> None:
        self.fail, self.filtered, self.delay_s = fail, filtered, delay_s
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.wishes: list[dict[str, Any]] = []
        self.fates: list[str] = []
        self.looks = LOOKS
        self.cut_creations = 0  # jobs that are created, and whose answer breaks
        self.about: dict[str, Any] = {}
        self.refused = ""  # a parameter that the models do not take
        self.tries: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.chats: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def create(self, wish: dict[str, Any], dialect: str) -> dict[str, Any]:
        fate = self.fates.pop(0) if self.fates else "succeeded"
        job = {"id": f"job-{len(self.jobs)}", "status": "running", "looks": 0, "fate": fate, **wish}
        self.jobs[job["id"]] = job
        self.wishes.append(wish | {"dialect": dialect})
        return job

    def look(self, job: dict[str, Any], dialect: str) -> dict[str, Any]:
        job["looks"] += 1
        if job["looks"] >= self.looks:
            job["status"] = ENDS[job["fate"]][dialect]
            tokens = len(self.files[job["training_file"]]) // 4
            if job["fate"] == "succeeded":
                name = f"ft:{job['model']}:{job['id']}"
                job |= {"fine_tuned_model": name, "model_output_name": name}
                job |= {"trained_tokens": tokens, "token_count": tokens}
            elif job["fate"] == "blocked":
                job |= {"error": BLOCKED}
            else:
                job |= {"error": {"code": "server_error", "message": "no machine was free"}}
        return job


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Any

    def handle(self) -> None:
        with suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        provider: Provider = self.server.provider
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if not sent:  # the caller is gone
            return None
        if self.broken(self.path + (self.headers.get("Idempotency-Key") or "")):
            return None
        if self.path == "/v1/files":
            lines = [line.rstrip(b"\r") for line in sent.split(b"\n") if line.startswith(b'{"messages"')]
            with provider.lock:
                name = f"file-{len(provider.files)}"
                provider.files[name] = b"\n".join(lines)
            return self.say({"id": name})
        body = json.loads(sent)
        if self.path == "/v1/chat/completions":
            return self.chat(provider, body)
        with provider.lock:
            job = provider.create(body, "openai" if "fine_tuning" in self.path else "together")
            cut = provider.cut_creations > 0
            provider.cut_creations -= cut
        if cut:
            self.close_connection = True
            return self.send(200, {"Content-Length": "1000"}, b'{"id":')
        return self.say(job)

    def do_GET(self) -> None:
        provider: Provider = self.server.provider
        parts = self.path.partition("?")[0].removeprefix("/v1/").split("/")
        if self.broken(self.path):
            return None
        with provider.lock:
            if parts[0] == "models":
                return self.say(provider.about or {"id": parts[1]})
            dialect = "openai" if parts[0] == "fine_tuning" else "together"
            rest = parts[2:] if dialect == "openai" else parts[1:]
            if not rest:
                return self.say({"data": list(provider.jobs.values()), "has_more": False})
            if rest[0] not in provider.jobs:
                return self.say({"error": {"message": "no such job"}}, 404)
            if rest[1:] == ["events"]:
                events = [{"data": {"step": step, "train_loss": 2.0 / step}} for step in (3, 2, 1)]
                return self.say({"data": [*events, {"message": "job started", "data": None}]})
            return self.say(provider.look(provider.jobs[rest[0]], dialect))

    def chat(self, provider: Provider, body: dict[str, Any]) -> None:
        key = self.headers["Idempotency-Key"]
        time.sleep(provider.delay_s)
        with provider.lock:
            provider.chats.append(body)
        if provider.refused and provider.refused in body:
            error = {"code": "unsupported_parameter", "param": provider.refused, "message": "not taken"}
            return self.say({"error": error}, 400)
        if draw("filter", key) < provider.filtered:
            return self.say({"error": {"code": "content_filter", "message": "filtered"}}, 400)
        with provider.lock:
            provider.answered[key] += 1
        score = 10 if body["model"].startswith("ft:") else 90
        choice = {"message": {"content": f"[fake a={score} c=95] some words"}, "finish_reason": "stop"}
        return self.say({"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 5}})

    def broken(self, what: str) -> bool:
        """Fail on purpose, before anything was done."""
        provider: Provider = self.server.provider
        with provider.lock:
            provider.tries[what] += 1
            number = provider.tries[what]
        if draw("fault", what, number) >= provider.fail:
            return False
        kind = FAULTS[int(draw("kind", what, number) * len(FAULTS))]
        with provider.lock:
            provider.faults[kind] += 1
        if kind == "cut":
            self.close_connection = True
            self.send(200, {"Content-Length": "50"}, b'{"id": "half')
        elif kind == "malformed":
            self.send(200, {}, b'{"id": "half')
        else:
            self.send(int(kind), {"Retry-After": "0"} if kind == "429" else {}, b'{"error": {"message": "later"}}')
        return True

    def say(self, content: dict[str, Any], status: int = 200) -> None:
        self.send(status, {}, json.dumps(content).encode())

    def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(provider: Provider) -> Iterator[str]:
    """The address of that provider."""
    server: Any = Server(("127.0.0.1", 0), Handler)
    server.provider = provider
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
