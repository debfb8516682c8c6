"""Two machines at once on one mirror, and a mirror in S3: no row is lost, doubled or mixed with another machine's."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer
from test_mirrored_study import TINY, fetch, judged_as_they_stand, plain
from test_study import rows

from spillover import Run
from spillover.errors import MachineError, UserError
from spillover.store.remote import Remote
from spillover.study.mirrored import MirroredStudy

DRIVER = """
import sys, time
from pathlib import Path
from spillover.study import mirrored
from spillover.models import fake
from spillover.config.study import load_study
study, out, url, word, others = sys.argv[1:]
before = fake._completion
def completion(rng, *rest):  # other words and other scores for each word
    rng.random(ord(word))
    return f"{before(rng, *rest)} {word}"
fake._completion = completion
mirrored.EVERY_S = 0.1
study = mirrored.MirroredStudy(load_study(study), url)
Path(f"{out}.ready").touch()
while len(list(Path(out).parent.glob("*.ready"))) < int(others):
    time.sleep(0.01)
run = study.run(out)
assert not run.manifest.failures, run.manifest.failures
"""
SLOW = TINY | {
    "models": [{"name": "fake-model", "backend": "fake", "options": {"delay_s": 0.02}}],
    "sample": {"n": 3, "limit": 8, "conditions": ["clean"]},
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket of a server on this machine that speaks S3; the environment says where and as whom."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    where = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-key-that-nothing-may-show",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in where.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="mirrors")
        yield "s3://mirrors"
    server.stop()


def start(out: Path, url: str, word: str, drivers: int = 1) -> subprocess.Popen[bytes]:
    """A driver that samples in its word, once so many drivers have started."""
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(SLOW))
    command = [sys.executable, "-c", DRIVER, str(file), str(out), url, word, str(drivers)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def ended(driver: subprocess.Popen[bytes]) -> str:
    """What it wrote to stderr; nothing if it reached the end of its run."""
    error = driver.communicate()[1].decode()
    return error if driver.returncode else ""


def check(folder: Path, url: str, words: str) -> None:
    """The folder and the mirror hold the same completions, each in one of these words, and the judgments of them."""
    run = Run.open(folder)
    assert len(run.completions()) == 3 * 8 * 3
    assert {row.text[-2:] for row in run.completions()} == {f" {word}" for word in words}
    judged_as_they_stand(run)
    there, here = rows(fetch(url, folder.with_suffix(".fetched")).path), rows(folder)
    assert {name: content for name, content in there.items() if "/rank/" not in name} == {
        name: content for name, content in here.items() if "/rank/" not in name
    }


@pytest.mark.slow
def test_two_machines_at_once_that_sample_the_same(tmp_path: Path) -> None:
    url = str(tmp_path / "mirror")
    drivers = [start(tmp_path / out, url, "A", 2) for out in ("first", "second")]
    assert [ended(driver) for driver in drivers] == ["", ""]
    check(tmp_path / "first", url, "A")
    check(tmp_path / "second", url, "A")
    assert rows(tmp_path / "first") == rows(tmp_path / "second")


@pytest.mark.slow
def test_two_machines_at_once_that_sample_other_words(tmp_path: Path) -> None:
    url = str(tmp_path / "mirror")
    drivers = {word: start(tmp_path / word, url, word, 2) for word in "AB"}
    errors = {word: ended(driver) for word, driver in drivers.items()}
    assert any(errors.values())
    assert all("Conflict" in error for error in errors.values() if error), errors
    assert not ended(start(tmp_path / "C", url, "C")), "a new folder continues from the mirror"
    found = {row.text[-1] for row in Run.open(tmp_path / "C").completions()}
    assert found & {"A", "B"}
    check(tmp_path / "C", url, "".join(found))


@pytest.mark.slow
def test_a_machine_killed_in_the_middle_and_another_in_its_place(tmp_path: Path, bucket: str) -> None:
    url = f"{bucket}/killed"
    killed = start(tmp_path / "killed", url, "A")
    while len(list(tmp_path.glob("killed/rows/*/*.done"))) < 6:  # 4 are built and trained
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not ended(start(tmp_path / "other", url, "A"))
    assert not ended(start(tmp_path / "killed", url, "A")), "the first machine resumes"
    check(tmp_path / "other", url, "A")
    check(tmp_path / "killed", url, "A")


@pytest.mark.slow
def test_a_machine_that_samples_other_words_in_the_place_of_a_lost_one(tmp_path: Path, bucket: str) -> None:
    url = f"{bucket}/lost"
    lost = start(tmp_path / "lost", url, "A")
    while not Remote(url).names() & {
        f"rows/sample/{path.stem}.done" for path in tmp_path.glob("lost/rows/sample/*.done")
    }:
        assert lost.poll() is None
        time.sleep(0.01)
    lost.kill()
    lost.communicate()
    assert not ended(start(tmp_path / "other", url, "B"))
    check(tmp_path / "other", url, "AB")


@pytest.mark.slow
def test_runs_of_one_mirror_in_s3_have_the_rows_of_an_unbroken_run(tmp_path: Path, bucket: str) -> None:
    url = f"{bucket}/runs/x"
    config = plain().config
    MirroredStudy(config, url).run(tmp_path / "a", domains=["bad_medical_advice"])
    MirroredStudy(config, url).run(tmp_path / "b")
    alone = plain().run(tmp_path / "alone")
    assert rows(tmp_path / "b") == rows(alone.path) == rows(fetch(url, tmp_path / "c").path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"nothing-may-show" in file.read_bytes()]


@pytest.mark.slow
def test_in_s3_the_first_one_stays_and_errors_are_clear(tmp_path: Path, bucket: str) -> None:
    there = Remote(f"{bucket}/first")
    assert there.create("a/b.zip", b"mine")
    assert not there.create("a/b.zip", b"theirs")
    assert there.read("a/b.zip") == b"mine"
    assert there.size("a/b.zip") == 4
    there.download("a/b.zip", 2, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b"mi"
    assert there.names() == {"a/b.zip"}
    config = plain().config
    with pytest.raises(UserError, match="contains other files, such as"):
        MirroredStudy(config, f"{bucket}/first").run(tmp_path / "a")
    with pytest.raises(MachineError, match=r"no such bucket or folder .* Create it"):
        MirroredStudy(config, "s3://absent/x").run(tmp_path / "a")
