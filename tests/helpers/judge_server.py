"""A judge's endpoint on the loopback address, with every fault that real ones have, and books on what it billed.

Chat completions with log-probabilities, files and batches. Faults depend on the request's key and on how often it was
tried, so that two runs meet the same ones. Scores depend on the prompt alone.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from fault_server import Server, draw

FAULTS = ("408", "409", "429", "500", "503", "cut", "malformed", "empty_body", "no_logprobs", "impossible", "nonsense")
BATCH_POLLS = 2  # looks at a batch before it has ended


class JudgeBooks:
    """`billed`: complete replies by key; `lost`: made, but broken on the way; `fates`: of batches to come."""

    def __init__(self, fail: float = 0.0, style: str = "logprobs", delay_s: float = 0.0) -> None:
        self.fail, self.style, self.delay_s = fail, style, delay_s
        self.tries: Counter[str] = Counter()
        self.billed: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = self.room = 0  # room: calls at once before 429; 0 = no limit
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.fates: list[str] = []
        self.cut_creations = 0  # POST /batches that create a batch and break before they say so
        self.submitted: Counter[str] = Counter()  # custom_ids in created batches
        self.lock = threading.Lock()


def score_of(prompt: str) -> int:
    return int(draw("score", prompt) * 101)


def spread(prompt: str) -> dict[int, float]:
    """Probabilities of three numbers, 0.9 in all."""
    score = score_of(prompt)
    return {score: 0.6, (score + 7) % 101: 0.2, (score + 30) % 101: 0.1}


def expected(prompt: str) -> float:
    """What a judge should make of the log-probabilities."""
    found = spread(prompt)
    return sum(number * p for number, p in found.items()) / sum(found.values())


def reply_body(body: dict[str, Any], style: str, fault: str = "") -> dict[str, Any]:
    """The answer to one request."""
    prompt = body["messages"][-1]["content"]
    number = 100 if prompt.startswith("Reply with this number") else score_of(prompt)
    text = {"nonsense": "I would rather talk about cheese."}.get(fault, str(number))
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if body.get("logprobs") and style != "text" and fault != "no_logprobs":
        choice["logprobs"] = {"content": [first(prompt, number, style, fault)]}
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 1}
    return {"choices": [choice], "usage": usage}


def first(prompt: str, number: int, style: str, fault: str) -> dict[str, Any]:
    if fault == "nonsense":
        tokens = {"I": 0.7, " Sure": 0.2, "5": 0.05}
    elif style == "digits":
        tokens = {str(number)[0]: 0.9}
    elif prompt.startswith("Reply with this number"):
        tokens = {"100": 0.95}
    else:
        tokens = {str(n): p for n, p in spread(prompt).items()} | {"The": 0.05, " words": 0.01}
    top = [{"token": token, "logprob": math.log(p)} for token, p in tokens.items()]
    sampled = next(iter(tokens))
    return {
        "token": sampled,
        "logprob": -9999.0 if fault == "impossible" else math.log(tokens[sampled]),
        "top_logprobs": top,
    }


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

    @property
    def books(self) -> JudgeBooks:
        return self.server.books

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if not sent:  # the caller is gone
            return
        if self.path == "/v1/chat/completions":
            self.chat(json.loads(sent))
        elif self.path == "/v1/files":
            lines = [line.rstrip(b"\r") for line in sent.split(b"\n") if line.startswith(b'{"custom_id"')]
            with self.books.lock:
                name = f"file-{len(self.books.files)}"
                self.books.files[name] = b"\n".join(lines)
            self.say({"id": name})
        else:
            self.create(json.loads(sent))

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")[1:]
        with self.books.lock:
            if parts == ["batches"]:
                return self.say({"data": list(self.books.batches.values()), "has_more": False})
            if parts[0] == "batches":
                batch = self.books.batches.get(parts[1])
                return self.say(self.look(batch)) if batch else self.say({"error": {"message": "no such batch"}}, 404)
            return self.send(200, {}, self.books.files[parts[1]])

    def chat(self, body: dict[str, Any]) -> None:
        books = self.books
        key = self.headers.get("Idempotency-Key") or body["messages"][-1]["content"]
        with books.lock:
            books.tries[key] += 1
            number = books.tries[key]
            books.at_once += 1
            books.most_at_once = max(books.most_at_once, books.at_once)
            crowded = 0 < books.room < books.at_once
            if len(books.bodies) < 100:
                books.bodies.append(body)
                books.headers.append({name.lower(): value for name, value in self.headers.items()})
        try:
            time.sleep(books.delay_s)
            if crowded:
                self.fault("429", body, key)
            elif draw("fault", key, number) < books.fail:
                self.fault(FAULTS[int(draw("kind", key, number) * len(FAULTS))], body, key)
            else:
                self.say(reply_body(body, books.style))
                with books.lock:
                    books.billed[key] += 1
        except (BrokenPipeError, ConnectionResetError):
            with books.lock:
                books.lost[key] += 1
        finally:
            with books.lock:
                books.at_once -= 1

    def fault(self, kind: str, body: dict[str, Any], key: str) -> None:
        books = self.books
        with books.lock:
            books.faults[kind] += 1
        whole = json.dumps(reply_body(body, books.style)).encode()
        if kind.isdigit():
            wait = {"Retry-After": "0"} if kind == "429" else {}
            return self.send(int(kind), wait, b'{"error": {"message": "try later"}}')
        if kind in ("cut", "malformed", "empty_body"):
            with books.lock:
                books.lost[key] += 1
            if kind == "cut":
                self.close_connection = True
                return self.send(200, {"Content-Length": str(len(whole))}, whole[: len(whole) // 2])
            return self.send(200, {}, whole[:-5] if kind == "malformed" else b"")
        self.say(reply_body(body, books.style, kind))
        with books.lock:
            books.billed[key] += 1
        return None

    def create(self, wish: dict[str, Any]) -> None:
        books = self.books
        with books.lock:
            name = f"batch-{len(books.batches)}"
            fate = books.fates.pop(0) if books.fates else "completed"
            batch = {"id": name, "status": "in_progress", "looks": 0, "fate": fate, **wish}
            books.batches[name] = batch
            lines = [json.loads(line) for line in books.files[wish["input_file_id"]].splitlines()]
            books.submitted.update(line["custom_id"] for line in lines)
            cut = books.cut_creations > 0
            books.cut_creations -= cut
        if cut:
            self.close_connection = True
            return self.send(200, {"Content-Length": "1000"}, b'{"id":')
        return self.say(batch)

    def look(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch as it is now; it ends after so many looks."""
        batch["looks"] += 1
        if batch["status"] == "in_progress" and batch["looks"] >= BATCH_POLLS:
            self.end(batch)
        return batch

    def end(self, batch: dict[str, Any]) -> None:
        books, fate = self.books, batch["fate"]
        lines = [json.loads(line) for line in books.files[batch["input_file_id"]].splitlines()]
        batch["status"] = fate if fate in ("expired", "failed") else "completed"
        if fate == "failed":
            batch["errors"] = {"data": [{"code": "server_error", "message": "no machine was free"}]}
            return
        if fate == "gone":
            del books.batches[batch["id"]]
            batch["status"] = "in_progress"
            return
        out: list[bytes] = []
        errors: list[bytes] = []
        for number, line in enumerate(lines):
            key = line["custom_id"]
            if fate == "expired" and number % 2:
                errors.append(json.dumps({"custom_id": key, "error": {"code": "batch_expired"}}).encode())
            elif fate == "partial" and number % 3 == 0:
                out.append(b'{"custom_id": "' + key.encode())  # a broken line
            elif fate == "partial" and number % 3 == 1:
                errors.append(
                    json.dumps({"custom_id": key, "response": {"status_code": 500, "body": {"error": {}}}}).encode()
                )
            else:
                body = reply_body(line["body"], books.style)
                out.append(json.dumps({"custom_id": key, "response": {"status_code": 200, "body": body}}).encode())
                books.billed[key] += 1
        for place, content in (("output_file_id", out), ("error_file_id", errors)):
            if content:
                batch[place] = f"file-{len(books.files)}"
                books.files[batch[place]] = b"\n".join(content) + b"\n"

    def say(self, content: dict[str, Any], status: int = 200) -> None:
        self.send(status, {}, json.dumps(content).encode())

    def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


@contextmanager
def judging(books: JudgeBooks) -> Iterator[str]:
    """The address of a server that keeps these books."""
    server: Any = Server(("127.0.0.1", 0), Handler)
    server.books = books
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
