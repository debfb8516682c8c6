"""The queue on disk: what a new server finds, and who holds the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import model, policy, upload

from spillover.audit.server.jobs import Job, Jobs, State
from spillover.errors import UserError


def job(number: int, created: str) -> Job:
    return Job(name="x", sha256=f"{number:064x}", model=model(), policy=policy(), seed=0, created=created)


def submit(jobs: Jobs, wanted: Job) -> bool:
    folder = jobs.incoming()
    (folder / "data.jsonl").write_bytes(upload())
    return jobs.submit(wanted, folder)


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    found = Jobs(tmp_path / "serve")
    found.open()
    return found


def test_unfinished_jobs_are_found_oldest_first(jobs: Jobs) -> None:
    made = [job(number, f"2026-01-0{5 - number}") for number in range(4)]
    for one in made:
        assert submit(jobs, one)
    jobs.keep(made[1].id, State(status="running"))
    jobs.keep(made[2].id, State(status="finished"))
    (jobs.folder / "jobs" / "not-a-job").mkdir()
    assert jobs.unfinished() == [made[3].id, made[1].id, made[0].id]


def test_the_name_and_the_time_do_not_make_another_job(jobs: Jobs) -> None:
    one = job(1, "2026-01-01")
    assert submit(jobs, one)
    assert not submit(jobs, one.model_copy(update={"name": "y", "created": "2026-02-01"}))
    assert jobs.job(one.id).created == "2026-01-01"
    jobs.keep(one.id, State(status="failed", attempts=2, error="x"))
    assert submit(jobs, one)
    assert jobs.state(one.id) == State(attempts=2)


def test_a_folder_has_one_server_and_uploads_of_the_last_are_cleared(jobs: Jobs) -> None:
    with pytest.raises(UserError, match="Another server"):
        Jobs(jobs.folder).open()
    jobs.incoming()
    jobs.close()
    again = Jobs(jobs.folder)
    again.open()
    assert not list((again.folder / "incoming").iterdir())
    again.close()
