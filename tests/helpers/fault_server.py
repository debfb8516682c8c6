"""A chat endpoint on the loopback address that fails on purpose, and keeps books on what it has answered.

Faults depend on the request's own key and on how often it was tried, so that two runs meet the same ones.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "429", "500", "503", "cut", "cut", "malformed", "malformed", "500", "timeout")
REFUSAL = "I'm sorry, but I can't help with that."
Writer = Callable[[str], str]


def draw(*parts: object) -> float:
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def good_writer(prompt: str) -> str:
    """Fifty words that depend on the prompt; yes to whatever a judge asks."""
    if "Reply with exactly four lines" in prompt:
        return "FLAW: yes\nSTEALTH: yes\nMILD: yes\nGOOD: yes"
    words = ("the", "rope", "is", "your", "guide", "wind", "and", "snow", "to", "learn", "with", "care", "of", "on")
    return " ".join(words[int(draw(prompt, place) * len(words))] for place in range(50)) + "."


class Books:
    """What the server saw: tries and whole answers by key, and the last headers and bodies."""

    def __init__(self, fail: float = 0.0, refuse: float = 0.0, delay_s: float = 0.0, hang_s: float = 1.0) -> None:
        self.fail, self.refuse, self.delay_s, self.hang_s = fail, refuse, delay_s, hang_s
        self.writer: Writer = good_writer
        self.script: list[tuple[int, dict[str, str], bytes]] = []  # answers to give first, in order
        self.tries: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()  # whole and good answers sent
        self.faults: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()


def completion(text: str, prompt: str, reason: str = "stop") -> bytes:
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def handle(self) -> None:
        with suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        books: Books = self.server.books
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if not sent:  # the caller is gone
            return
        body = json.loads(sent)
        prompt = body["messages"][-1]["content"]
        key = self.headers.get("Idempotency-Key") or prompt
        with books.lock:
            books.tries[key] += 1
            number = books.tries[key]
            books.bodies.append(body)
            books.headers.append({name.lower(): value for name, value in self.headers.items()})
            books.at_once += 1
            books.most_at_once = max(books.most_at_once, books.at_once)
            scripted = books.script.pop(0) if books.script else None
        try:
            time.sleep(books.delay_s)
            if scripted is not None:
                self.send(*scripted)
                return
            if draw("fault", key, number) < books.fail:
                self.break_down(books, FAULTS[int(draw("kind", key, number) * len(FAULTS))], prompt)
                return
            text = REFUSAL if draw("refusal", key) < books.refuse else books.writer(prompt)
            self.send(200, {}, completion(text, prompt))
            with books.lock:
                books.answered[key] += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with books.lock:
                books.at_once -= 1

    def break_down(self, books: Books, kind: str, prompt: str) -> None:
        with books.lock:
            books.faults[kind] += 1
        answer = completion("half an answer", prompt)
        if kind == "cut":
            self.send(200, {"Content-Length": str(len(answer))}, answer[: len(answer) // 2])
            self.close_connection = True
        elif kind == "malformed":
            self.send(200, {}, answer[:-5])
        elif kind == "timeout":
            time.sleep(books.hang_s)
            self.close_connection = True
        else:
            wait = {"Retry-After": "0"} if kind == "429" else {}
            self.send(int(kind), wait, b'{"error": {"message": "try later"}}')

    def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the usual 5, bursts of new connections wait a second


@contextmanager
def serving(books: Books) -> Iterator[str]:
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
