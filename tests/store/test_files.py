"""Files that are whole or absent, locks, and archives from a stranger."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.errors import MachineError, UserError
from spillover.store import files
from spillover.store.files import create_file, lock, replace_file, replacing, unzip, zip_files

YEAR_0 = (1980, 1, 1, 0, 0, 0)
ANY = re.compile(r"[a-z]+\.(jsonl|safetensors)")
HOLD = """
import sys, time
from pathlib import Path
from spillover.store.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def zipped(path: Path, entries: dict[str, bytes], attributes: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = attributes << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def taken(archive: Path, into: Path, most: int = 2**20) -> dict[str, bytes]:
    unzip(archive, into, ANY, most, "the archive")
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sub" / "a.json"
    replace_file(path, "é")
    assert path.read_bytes() == "é".encode()

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        replace_file(path, b"new")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half" * (1 // 0))
    assert path.read_bytes() == "é".encode()
    assert os.listdir(path.parent) == ["a.json"], "no temporary file is left"


@pytest.mark.parametrize("links", [True, False])
def test_the_first_to_create_a_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def no_links(*args: Any) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(files.os, "link", no_links)
    path = tmp_path / "sub" / "a"
    assert create_file(path, b"mine")
    assert not create_file(path, b"theirs")
    assert path.read_bytes() == b"mine"
    assert os.listdir(path.parent) == ["a"]
    if links:
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda number: create_file(tmp_path / "b", b"%d" % number), range(8)))
        assert (tmp_path / "b").read_bytes() == b"%d" % won.index(True)
        assert sum(won) == 1


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError), lock(tmp_path / "lock", wait_s=0):
        pass
    holder.send_signal(signal.SIGKILL)
    with lock(tmp_path / "lock", wait_s=20):
        started = time.monotonic()
        with pytest.raises(BlockingIOError), lock(tmp_path / "lock", wait_s=0.2):
            pass
        assert time.monotonic() - started >= 0.2
    holder.wait()
    with lock(tmp_path / "lock"), lock(tmp_path / "another"):
        pass


def test_an_archive_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'{"a": 1}\n' * 1000)
    (tmp_path / "weights").write_bytes(os.urandom(1000))
    names = [("a.jsonl", tmp_path / "rows", (2026, 5, 4, 3, 2, 2)), ("b.safetensors", tmp_path / "weights", YEAR_0)]
    zip_files(tmp_path / "zip", names)
    with zipfile.ZipFile(tmp_path / "zip") as independent:
        assert independent.testzip() is None
        assert [info.date_time for info in independent.infolist()] == [when for _, _, when in names]
    assert taken(tmp_path / "zip", tmp_path / "out") == {name: path.read_bytes() for name, path, _ in names}


@pytest.mark.parametrize(
    "name", ["../a.jsonl", "/etc/a.jsonl", "b/../../a.jsonl", "a.jsonl/", "a.jsonl\n", "a\\a.jsonl", "a.pkl", ""]
)
def test_names_that_do_not_belong_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "zip", {"b.jsonl": b"x", name: b"x"})
    with pytest.raises(UserError, match=r"does not belong there\. Delete the archive"):
        taken(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["zip"]


@pytest.mark.parametrize("kind", [0o120777, 0o060644, 0o010644, 0o040755])
def test_links_devices_and_folders_are_refused(tmp_path: Path, kind: int) -> None:
    with pytest.raises(UserError, match="does not belong there"):
        taken(zipped(tmp_path / "zip", {"a.jsonl": b"/etc/passwd"}, kind), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.jsonl", b"1")
        archive.writestr("a.jsonl", b"2")
    with pytest.raises(UserError, match="twice"):
        taken(tmp_path / "zip", tmp_path / "out")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "zip", {"a.jsonl": b"0" * 2**24})
    assert bomb.stat().st_size < 2**16
    with pytest.raises(UserError, match="too large for a run folder"):
        taken(bomb, tmp_path / "out", 2**30)
    with pytest.raises(UserError, match="too large for a run folder"):
        taken(zipped(tmp_path / "zip", {"a.jsonl": b"12"}), tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_understates_its_sizes_writes_no_more_than_it_states(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "zip", {"a.jsonl": b"0" * 2**24}).read_bytes())
    stated = (2**24).to_bytes(4, "little")
    while (at := content.find(stated)) >= 0:
        content[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "zip").write_bytes(content)
    with pytest.raises(zipfile.BadZipFile):
        taken(tmp_path / "zip", tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1000


def damaged(act: Callable[[], Any]) -> bool:
    try:
        act()
    except (zipfile.BadZipFile, UserError):
        return True
    return False


@given(cut=st.floats(0, 0.999))
def test_a_part_of_an_archive_is_damaged_and_never_less(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    archive = zipped(folder / "zip", {"a.jsonl": b'{"a": 1}\n' * 50})
    assert taken(archive, folder / "whole") == {"a.jsonl": b'{"a": 1}\n' * 50}
    archive.write_bytes(archive.read_bytes()[: int(cut * archive.stat().st_size)])
    assert damaged(lambda: taken(archive, folder / "out"))


@given(
    content=st.binary(max_size=200), flips=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=9)
)
def test_any_bytes_are_damaged_or_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "bytes").write_bytes(content)
    assert damaged(lambda: taken(folder / "bytes", folder / "out"))
    whole = io.BytesIO(zipped(folder / "zip", {"a.jsonl": b"1" * 600, "b.jsonl": b"2"}).read_bytes()).getbuffer()
    for at, byte in flips:
        whole[at % len(whole)] = byte
    (folder / "zip").write_bytes(whole)
    damaged(lambda: taken(folder / "zip", folder / "flipped"))
    assert all(ANY.fullmatch(path.name) for path in (folder / "flipped").rglob("*"))
