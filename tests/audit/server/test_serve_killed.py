"""A real server under parallel uploads, killed without warning and started again: nothing lost, nothing run twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from serving import TOKEN, policy, upload

JOBS = 5


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    model = {"name": "fake-model", "backend": "fake", "options": {"delay_s": 0.002}}
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy().model_dump(mode="json")))
    command = [sys.executable, "-m", "spillover", "serve", "--port", str(port), "--workers", "2"]
    files = ["--model", str(folder / "model.yaml"), "--policy", str(folder / "policy.yaml")]
    return subprocess.Popen(
        [*command, *files, "--folder", str(folder / "serve")],
        env=os.environ | {"SPILLOVER_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def ready(client: httpx.Client) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if client.get("/v1/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def statuses(client: httpx.Client, ids: list[str]) -> list[dict[str, Any]]:
    return [client.get(f"/v1/audits/{audit_id}").json() for audit_id in ids]


@pytest.mark.slow
def test_parallel_uploads_survive_a_killed_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-ndjson"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
        server = start(tmp_path, port)
        try:
            ready(client)

            def post(number: int) -> str:
                answer = client.post("/v1/audits?model=fake-model", content=upload(number))
                assert answer.status_code == 202, answer.text
                return answer.json()["id"]

            with ThreadPoolExecutor(JOBS) as pool:
                ids = list(pool.map(post, range(JOBS)))
            assert len(set(ids)) == JOBS
            end = time.monotonic() + 120
            while sum(seen["status"] == "finished" for seen in statuses(client, ids)) < 2 and time.monotonic() < end:
                time.sleep(0.2)
            server.send_signal(signal.SIGKILL)
            server.wait()
            server = start(tmp_path, port)
            ready(client)
            end = time.monotonic() + 300
            while time.monotonic() < end:
                seen = statuses(client, ids)
                if all(one["status"] == "finished" for one in seen):
                    break
                time.sleep(0.5)
            assert [one["status"] for one in seen] == ["finished"] * JOBS
            assert {one["verdict"]["data"]["sha256"] for one in seen} == {one["sha256"] for one in seen}
            assert len({one["sha256"] for one in seen}) == JOBS
            logs = [(tmp_path / "serve" / "jobs" / one["id"] / "attempts").read_text() for one in seen]
            assert [log.count("done") for log in logs] == [1] * JOBS, "each ran to its end once"
            assert sum(log.count("started") > 1 for log in logs) <= 2, "only what was running began again"
        finally:
            server.terminate()
            server.wait(20)
