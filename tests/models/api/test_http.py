"""Files, batches and jobs over HTTP: what is retried, what stops, and what a hostile endpoint cannot do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from spillover.errors import MachineError, SpilloverError, UserError
from spillover.models.api.http import LARGEST, Endpoint, HttpCalls, NotThere

Response = tuple[int, bytes]
CUT = b"and then noth"  # a response that ends with it breaks off


@pytest.fixture
def script() -> list[Response]:
    return []


@pytest.fixture
def url(script: list[Response]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            status, content = script.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + (10 if content.endswith(CUT) else 0)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def calls(url: str, **changes: Any) -> HttpCalls:
    return HttpCalls(Endpoint(url, "m", retries=3, timeout_s=5.0, **changes), lambda _: None)


def lines(url: str) -> list[bytes]:
    taken: list[bytes] = []
    calls(url).read_lines("/files/f/content", taken.extend)
    return taken


def test_faults_are_tried_again(url: str, script: list[Response]) -> None:
    script += [(503, b""), (429, b"{}"), (200, b"no json"), (200, b'{"id": "b"}')]
    assert calls(url).get("/batches/b") == {"id": "b"}
    script += [(500, b"")] * 4
    with pytest.raises(MachineError, match=r"cannot be reached \(4 tries\)"):
        calls(url).get("/batches/b")


def test_an_error_that_affects_every_call_stops(
    url: str, script: list[Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    script += [(401, b'{"error": {"message": "bad key sk-1"}}')]
    with pytest.raises(UserError, match=r"rejects the key .*\[key\]"):
        calls(url, key_env="SOME_KEY").get("/batches")
    script += [(404, b"")]
    with pytest.raises(NotThere):
        calls(url).get("/batches/none")


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"[]", b"3", b'"x"', b"[" * 100_000])
def test_what_is_no_object_is_a_fault(url: str, script: list[Response], content: bytes) -> None:
    script += [(200, content)] * 4
    with pytest.raises(SpilloverError):
        calls(url).get("/batches/b")


@pytest.mark.slow
def test_lines_come_whole_and_bounded(url: str, script: list[Response]) -> None:
    script += [(200, b"one\ntwo\n\nthree")]
    assert lines(url) == [b"one", b"two", b"", b"three"]
    script += [(200, b"x" * (LARGEST + 100_000))] * 4
    with pytest.raises(MachineError):
        lines(url)


def test_a_file_that_breaks_off_begins_again(url: str, script: list[Response]) -> None:
    script += [(200, b"one\n" + CUT), (200, b"one\ntwo\n")]
    assert lines(url) == [b"one", b"one", b"two"]


def test_an_upload_needs_an_id(url: str, script: list[Response]) -> None:
    script += [(200, b'{"id": "file-1"}'), (200, b"{}")]
    assert calls(url).upload(b"{}\n", "batch", "r.jsonl") == "file-1"
    with pytest.raises(MachineError, match="returned no id"):
        calls(url).upload(b"{}\n", "batch", "r.jsonl")


def test_what_may_have_been_created_is_looked_for_before_it_is_created_again(url: str, script: list[Response]) -> None:
    made = iter(["", "batch-1"])
    script += [(500, b""), (200, b"{}")]
    assert calls(url).create("/batches", "name", {}, lambda: next(made), 0.0) == "batch-1"
    script += [(200, b'{"id": "batch-2"}')]
    assert calls(url).create("/batches", "name", {}, lambda: "not asked", 0.0) == "batch-2"
    assert script == []


def test_a_list_is_read_page_by_page(url: str, script: list[Response]) -> None:
    script += [
        (200, b'{"data": [{"id": "a"}, 3, {"id": "b"}], "has_more": true}'),
        (200, b'{"data": [{"id": "c"}], "has_more": false}'),
    ]
    assert [item["id"] for item in calls(url).listed("/batches")] == ["a", "b", "c"]
