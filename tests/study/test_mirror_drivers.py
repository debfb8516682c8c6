"""Two machines at once on one mirror, and a mirror in S3: no row lost or doubled, and both end with the same rows."""

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
from test_mirrored_study import TINY, judged_as_they_stand, plain
from test_study import rows

from spillover import Run
from spillover.errors import MachineError, UserError
from spillover.store.remote import Remote
from spillover.study.mirrored import MirroredStudy, fetch

DRIVER = """
import sys
from spillover.study import mirrored
from spillover.models import fake
from spillover.config.study import load_study
study, out, url, word = sys.argv[1:]
answer = fake._answer
fake._answer = lambda *args: f"{answer(*args)} {word}"  # another machine samples other words
mirrored.EVERY_S = 0.1
run = mirrored.MirroredStudy(load_study(study), url).run(out)
assert not run.manifest.failures, run.manifest.failures
"""
SLOW = TINY | {
    "models": [{"name": "fake-model", "backend": "fake", "options": {"delay_s": 0.01}}],
    "sample": {"n": 3, "limit": 8, "conditions": ["clean"]},
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket of a server on this machine that speaks S3; the environment says where and as whom."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-key-that-nothing-may-show",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="mirrors")
        yield "s3://mirrors"
    server.stop()


def start(tmp_path: Path, url: str, word: str) -> subprocess.Popen[bytes]:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(SLOW))
    command = [sys.executable, "-c", DRIVER, str(file), str(tmp_path / word), url, word]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def agree(tmp_path: Path, url: str, words: str) -> None:
    """Both folders hold the same answers, each of one machine's words, and every answer is judged as it stands."""
    first, second = (rows(tmp_path / word) for word in words)
    work = {name for name in first if "/rank/" not in name}
    assert {name: first[name] for name in work} == {name: second[name] for name in work}
    run = Run.open(tmp_path / words[0])
    assert len(run.completions()) == 3 * 8 * 3
    assert {row.text[-2:] for row in run.completions()} <= {f" {word}" for word in words}
    for word in words:
        judged_as_they_stand(Run.open(tmp_path / word))
    assert rows(fetch(url, tmp_path / "fetched").path).keys() >= work


@pytest.mark.slow
def test_two_machines_at_once_that_sample_other_words(tmp_path: Path) -> None:
    url = str(tmp_path / "mirror")
    drivers = [start(tmp_path, url, word) for word in "AB"]
    errors = [driver.communicate()[1].decode() for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], errors
    agree(tmp_path, url, "AB")


@pytest.mark.slow
def test_a_machine_killed_in_the_middle_and_another_in_its_place(tmp_path: Path, bucket: str) -> None:
    url = f"{bucket}/killed"
    killed = start(tmp_path, url, "A")
    while len(list(tmp_path.glob("A/rows/*/*.done"))) < 5:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    for word in "BA":  # the other machine, and then the first one again
        driver = start(tmp_path, url, word)
        error = driver.communicate()[1].decode()
        assert driver.returncode == 0, error
    agree(tmp_path, url, "BA")


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
def test_in_s3_the_first_one_stays_and_what_is_wrong_is_told(tmp_path: Path, bucket: str) -> None:
    there = Remote(f"{bucket}/first")
    assert there.create("a/b.zip", b"mine")
    assert not there.create("a/b.zip", b"theirs")
    assert there.read("a/b.zip", 100) == b"mine"
    assert there.read("a/b.zip", 2) == b"mi"
    assert there.names() == {"a/b.zip"}
    config = plain().config
    with pytest.raises(UserError, match="holds other files and no mirror"):
        MirroredStudy(config, f"{bucket}/first").run(tmp_path / "a")
    with pytest.raises(MachineError, match=r"no such bucket or folder .* Create it"):
        MirroredStudy(config, "s3://absent/x").run(tmp_path / "a")
