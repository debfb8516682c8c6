"""The service over HTTP, in one process with its application: what is taken, what is refused, and with what words."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving import TOKEN, upload

from spillover.audit.server.app import make_app
from spillover.audit.server.runner import Settings

NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(make_app(settings), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def idle(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A server that takes uploads and runs none."""
    monkeypatch.setattr("spillover.audit.server.runner.Runner._work", lambda self: _never())
    with TestClient(make_app(settings), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


async def _never() -> None:
    return None


def send(client: TestClient, content: bytes, model: str = "fake-model", **options: Any) -> Any:
    return client.post("/v1/audits", content=content, params={"model": model} | options, headers=NDJSON)


def wait(client: TestClient, audit_id: str, seconds: float = 60) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen = client.get(f"/v1/audits/{audit_id}").json()
        if seen["status"] not in ("queued", "running"):
            return seen
        time.sleep(0.2)
    raise AssertionError(f"still {seen}")


@pytest.mark.slow
def test_a_data_set_is_audited_in_a_process_of_its_own(client: TestClient, settings: Settings) -> None:
    answer = send(client, upload())
    assert answer.status_code == 202
    seen = wait(client, answer.json()["id"])
    assert seen["status"] == "finished", seen
    assert seen["verdict"]["verdict"] == "block"
    assert seen["verdict"]["data"]["sha256"] == seen["sha256"]
    card = client.get(f"/v1/audits/{seen['id']}/card")
    assert card.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in card.headers["content-security-policy"]
    assert client.delete(f"/v1/audits/{seen['id']}").status_code == 409
    again = send(client, upload())
    assert again.json()["id"] == seen["id"]
    assert again.json()["attempts"] == 1, "the same upload is not run again"
    log = (settings.folder / "jobs" / seen["id"] / "attempts").read_text()
    assert log.count("done") == 1


@pytest.mark.slow
def test_a_running_audit_is_cancelled_and_may_be_sent_again(client: TestClient) -> None:
    audit_id = send(client, upload(), "slow-model").json()["id"]
    end = time.monotonic() + 60
    while client.get(f"/v1/audits/{audit_id}").json()["progress"] is None and time.monotonic() < end:
        time.sleep(0.2)
    started = time.monotonic()
    assert client.delete(f"/v1/audits/{audit_id}").json()["status"] == "cancelled"
    assert time.monotonic() - started < 12
    assert client.get("/v1/health").json()["running"] == 0
    assert send(client, upload(), "slow-model").json()["status"] in ("queued", "running")


@pytest.mark.slow
def test_an_audit_that_crashes_is_a_failed_job_and_the_next_one_runs(settings: Settings) -> None:
    broken = replace(settings, predictor=Path("/nowhere/predictor.json"))
    with TestClient(make_app(broken), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        seen = wait(client, send(client, upload()).json()["id"])
        assert seen["status"] == "failed"
        assert "cannot be read" in seen["error"]
        assert client.get("/v1/health").json()["status"] == "ok"


def test_a_verdict_that_the_last_server_did_not_see_is_not_reached_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spillover.audit.server.runner.Runner._work", lambda self: _never())
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(make_app(settings), headers=headers) as client:
        seen = send(client, upload()).json()
    folder = settings.folder / "jobs" / seen["id"]
    (folder / "audit").mkdir()
    (folder / "audit" / "card.json").write_text('{"verdict": "pass"}')
    (folder / "state.json").write_text('{"status": "running", "attempts": 1}')
    with TestClient(make_app(settings), headers=headers) as client:
        again = client.get(f"/v1/audits/{seen['id']}").json()
        assert (again["status"], again["verdict"], again["attempts"]) == ("finished", {"verdict": "pass"}, 1)
        assert client.get("/v1/health").json()["queued"] == 0


def test_a_form_and_a_body_are_the_same_upload(idle: TestClient) -> None:
    raw = send(idle, upload()).json()
    form = idle.post("/v1/audits", data={"model": "fake-model"}, files={"file": ("../../etc/x.jsonl", upload())})
    assert form.status_code == 202
    assert form.json()["id"] == raw["id"]
    other = idle.post(
        "/v1/audits", data={"model": "fake-model", "seed": "1"}, files={"file": ("..\\a.jsonl", upload())}
    )
    assert other.json()["id"] != raw["id"]
    assert other.json()["name"] == "a.jsonl"
    assert other.json()["status"] == "queued"
    assert other.headers["location"] == f"/v1/audits/{other.json()['id']}"


def test_waiting_audits_are_cancelled(idle: TestClient) -> None:
    audit_id = send(idle, upload()).json()["id"]
    assert idle.get(f"/v1/audits/{audit_id}/card").status_code == 409
    assert idle.delete(f"/v1/audits/{audit_id}").json()["status"] == "cancelled"
    assert idle.delete(f"/v1/audits/{audit_id}").status_code == 409
    assert send(idle, upload()).json()["status"] == "queued"


@pytest.mark.parametrize("shown", [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}])
def test_without_the_token_nothing_is_said(settings: Settings, shown: dict[str, str]) -> None:
    with TestClient(make_app(settings)) as client:
        for method, path in (
            ("POST", "/v1/audits?model=fake-model"),
            ("GET", f"/v1/audits/{'0' * 24}"),
            ("GET", f"/v1/audits/{'0' * 24}/card"),
            ("DELETE", f"/v1/audits/{'0' * 24}"),
        ):
            answer = client.request(method, path, headers=shown | NDJSON, content=b"{}" if method == "POST" else None)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/health").status_code == 200
        assert client.get("/openapi.json").json()["paths"].keys() >= {"/v1/audits", "/v1/audits/{audit_id}/card"}
        assert TOKEN not in client.get("/openapi.json").text
    assert not list((settings.folder / "incoming").iterdir())


def test_bad_lines_are_named_by_line_and_field(idle: TestClient, settings: Settings) -> None:
    bad = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}
    content = upload(rows=2) + json.dumps(bad).encode() + b"\n{\x1b[31m\n\xff\n" + b'{"messages": "<script>"}\n'
    answer = send(idle, content)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    places = [(error["line"], error["field"], error["code"]) for error in problem["errors"]]
    assert places == [
        (3, "messages[1].content", "empty"),
        (4, "", "json"),
        (5, "", "encoding"),
        (6, "messages", "schema"),
    ]
    assert "\x1b" not in answer.text
    assert not list((settings.folder / "incoming").iterdir())
    assert not list((settings.folder / "jobs").iterdir())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"model": "/etc/passwd"}, "model"),
        ({"model": "fake-modle"}, "model"),
        ({"model": ""}, "model"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "1.5"}, "seed"),
        ({"seed": "nan"}, "seed"),
        ({"budget": "inf"}, "budget"),
        ({"budget": "soon"}, "budget"),
    ],
)
def test_wrong_options_are_named(idle: TestClient, options: dict[str, str], field: str) -> None:
    answer = send(idle, upload(), **options) if "model" not in options else send(idle, upload(), options["model"])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/zip"}, 415),
        ({"content-type": "application/yaml"}, 415),
        ({"content-type": "application/x-ndjson", "content-encoding": "gzip"}, 415),
        ({"content-type": "multipart/form-data"}, 400),
        ({"content-type": "multipart/form-data; boundary=x"}, 400),
    ],
)
def test_archives_and_other_kinds_are_refused(idle: TestClient, headers: dict[str, str], status: int) -> None:
    answer = idle.post("/v1/audits?model=fake-model", content=gzip.compress(upload()), headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("declared", [True, False])
def test_too_many_bytes_are_refused_while_they_come(settings: Settings, declared: bool) -> None:
    taken = 0

    def stream() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 10_000
            yield b"x" * 10_000

    with TestClient(make_app(settings), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        content: Any = b"x" * 10_000_000 if declared else stream()
        assert send(client, content).status_code == 413
        form = client.post("/v1/audits", data={"model": "fake-model"}, files={"file": ("x", b"y" * 120_000)})
        assert form.status_code == 413
    assert not list((settings.folder / "incoming").iterdir())


def test_a_full_queue_says_when_to_come_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.audit.server.runner.Runner._work", lambda self: _never())
    full = replace(settings, max_queued=1)
    with TestClient(make_app(full), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        assert send(client, upload(1)).status_code == 202
        answer = send(client, upload(2))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


def test_the_operator_bounds_the_budget(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.audit.server.runner.Runner._work", lambda self: _never())
    with TestClient(
        make_app(replace(settings, max_budget=5.0)), headers={"authorization": f"Bearer {TOKEN}"}
    ) as client:
        assert send(client, upload()).json()["budget"] == 5.0
        assert send(client, upload(), budget="2").json()["budget"] == 2.0
        assert send(client, upload(), budget="6").status_code == 422


@pytest.mark.parametrize("audit_id", ["..%2F..%2Fetc", "0" * 23, "g" * 24, "0" * 24])
def test_ids_that_are_none_are_refused(idle: TestClient, audit_id: str) -> None:
    assert idle.get(f"/v1/audits/{audit_id}").status_code in (404, 422)


class Outside(HTMLParser):
    """Every address that a page names, and every tag that could run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "srcset", "data")]


def test_the_interface_is_described_without_another_host(settings: Settings) -> None:
    with TestClient(make_app(settings)) as client:
        answer, api = client.get("/docs"), client.get("/openapi.json").json()
        assert client.get("/redoc").status_code == 404
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Outside()
    page.feed(answer.text)
    assert page.addresses == ["openapi.json"]
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not re.search(r"https?://|@import|url\(", answer.text)
    for path, operations in api["paths"].items():
        for method, said in operations.items():
            assert f"{method.upper()} {path}" in answer.text
            assert escape(said["description"]) in answer.text
            assert all(f">{status}<" in answer.text for status in said["responses"])
    for field in ("file", "budget", "application/x-ndjson", "number or null", "JobView"):
        assert field in answer.text
    refused = api["paths"]["/v1/audits"]["post"]["responses"]["422"]["content"]
    assert list(refused) == ["application/problem+json"]
