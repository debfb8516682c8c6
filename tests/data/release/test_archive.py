"""Archives: the same bytes for the same folder, and nothing written when one was made to do harm."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.data.release import archive
from spillover.data.release.archive import pack, read_archive, unpack
from spillover.errors import UserError

NAMES = st.from_regex(r"[a-zäé0-9_]{1,8}(/[a-z0-9-]{1,8}){0,3}(\.jsonl)?", fullmatch=True)


def tar(*entries: tarfile.TarInfo | tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as file:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                file.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                file.addfile(info, io.BytesIO(entry[1]))
    return packed.getvalue()


def special(kind: bytes, name: str = "x", target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {item.relative_to(folder).as_posix(): item.read_bytes() for item in folder.rglob("*") if item.is_file()}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=3000), min_size=1, max_size=6))
def test_what_a_tar_reader_sees_is_what_comes_back(files: dict[str, bytes]) -> None:
    names = sorted(files)
    if any(other.startswith(f"{name}/") for name in names for other in names):
        return
    data = tar(*files.items())
    assert read_archive(data) == files == read_archive(gzip.compress(data))


def test_round_trip_and_the_same_bytes_whatever_times_and_owners(tmp_path: Path) -> None:
    files = {"README.md": b"card", "a-plain/train.jsonl": b"{}\n" * 1000, "b" * 90 + "/é.jsonl": b"", "z/y/x": b"1"}
    first, second = write(tmp_path / "one", files), write(tmp_path / "two", dict(reversed(files.items())))
    for item in second.rglob("*"):
        os.utime(item, (1, 1))
        item.chmod(0o755)
    assert pack(first) == pack(second)
    with tarfile.open(fileobj=io.BytesIO(pack(first))) as independent:
        assert {m.name: (m.mtime, m.uid, m.gid, m.uname) for m in independent} == dict.fromkeys(files, (0, 0, 0, ""))
    written = unpack(pack(first), tmp_path / "out" / "here")
    assert read(tmp_path / "out" / "here") == files
    assert sorted(written) == sorted(tmp_path / "out" / "here" / name for name in files)
    assert not any(item.stat().st_mode & 0o111 for item in written)
    assert read_archive(pack(first / "README.md")) == {"README.md": b"card"}


def test_archives_of_the_program_tar_are_read(tmp_path: Path) -> None:
    folders = [special(tarfile.DIRTYPE, name) for name in (".", "./data")]
    assert read_archive(tar(*folders, ("./data/a.jsonl", b"{}"), form=tarfile.GNU_FORMAT)) == {"data/a.jsonl": b"{}"}


HOSTILE: list[tuple[str, Callable[[], bytes]]] = [
    ("points outside the folder", lambda: tar(("../x", b""))),
    ("points outside the folder", lambda: tar(("a/../../x", b""))),
    ("points outside the folder", lambda: tar(("./../x", b""))),
    ("points outside the folder", lambda: tar(("/etc/x", b""))),
    ("points outside the folder", lambda: tar(("a/..", b""))),
    ("points outside the folder", lambda: tar(special(tarfile.DIRTYPE, "../x"))),
    ("unsafe in a file name", lambda: tar(("..\\x", b""))),
    ("unsafe in a file name", lambda: tar(("C:x", b""))),
    ("unsafe in a file name", lambda: tar(("a\x1b[2Jb", b""))),
    ("unsafe in a file name", lambda: tar(("a\u202egnp.exe", b""))),
    ("not a plain path", lambda: tar(("a//b", b""))),
    ("not a plain path", lambda: tar(("a/./b", b""))),
    ("not a plain path", lambda: tar(("a /b", b""))),
    ("is reserved by git", lambda: tar((".Git/config", b""))),
    ("too long", lambda: tar(("a/" * 99 + "bbb", b""))),
    ("too long", lambda: tar(("é" * 61, b""))),
    ("too deep", lambda: tar(("a/" * 8 + "b", b""))),
    ("a link to '/etc/passwd'", lambda: tar(special(tarfile.SYMTYPE, target="/etc/passwd"))),
    ("a link to 'a'", lambda: tar(("a", b"1"), special(tarfile.LNKTYPE, target="a"))),
    ("a device", lambda: tar(special(tarfile.CHRTYPE))),
    ("a device", lambda: tar(special(tarfile.BLKTYPE))),
    ("a device", lambda: tar(special(tarfile.FIFOTYPE))),
    ("twice", lambda: tar(("a", b"1"), ("a", b"2"))),
    ("twice", lambda: tar(("a", b"1"), ("./a", b"2"))),
    ("same file", lambda: tar(("a", b"1"), ("A", b"2"))),
    ("same file", lambda: tar(("é", b"1"), ("e\u0301", b"2"))),
    ("a file and a folder", lambda: tar(("a", b"1"), ("a/b", b"2"))),
    ("a file and a folder", lambda: tar(("A/b", b"1"), ("a", b"2"))),
    ("same file|a file and a folder", lambda: tar(("a", b"1"), special(tarfile.DIRTYPE, "a"))),
    ("bomb", lambda: gzip.compress(tar(("a", bytes(40 * archive.MIB))), 9)),
    ("bomb", lambda: gzip.compress(b"", 9) * 3 + gzip.compress(bytes(40 * archive.MIB), 9)),
    ("holds more than", lambda: tar(*((f"{i}", b"") for i in range(archive.MOST_FILES + 1)), form=tarfile.GNU_FORMAT)),
    ("ends too early", lambda: gzip.compress(tar(("a", os.urandom(9000))))[:-20]),
    ("damaged", lambda: tar(("a", b"1" * 9000))[:4000]),
    ("damaged", lambda: b"not a tar" * 100),
    ("damaged", lambda: gzip.compress(b"")[:10] + b"\xff" * 50),
    ("holds no files", lambda: tar()),
    ("holds no files", lambda: tar(special(tarfile.DIRTYPE, "a"))),
]


@pytest.mark.slow
@pytest.mark.parametrize(("reason", "make"), HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(
    tmp_path: Path, reason: str, make: Callable[[], bytes]
) -> None:
    harmless_first = make()
    with pytest.raises(UserError, match=reason):
        unpack(harmless_first, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_sparse_file_cannot_swell(tmp_path: Path) -> None:
    """A pax header that declares 1 TiB of holes around one byte."""
    info = tarfile.TarInfo("a")
    info.size = 512
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info, io.BytesIO(bytes(512)))
    with pytest.raises(UserError, match="unusual type"):
        unpack(packed.getvalue(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST", 10_000)
    folder = write(tmp_path / "in", {"a": bytes(6000), "b": bytes(6000)})
    with pytest.raises(UserError, match="Split it"):
        pack(folder)
    with pytest.raises(UserError, match="Split it"):
        read_archive(tar(("a", bytes(12_000))))
    with pytest.raises(UserError, match="bomb"):
        read_archive(gzip.compress(tar(("a", bytes(12_000)))))


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damage_ends_in_a_sentence_or_in_harmless_names(data: st.DataObject) -> None:
    """Flipped bytes anywhere never raise anything but a UserError, and never let a bad name through."""
    whole = bytearray(tar(("a/b.jsonl", b"1" * 600), ("c", b"2"), special(tarfile.DIRTYPE, "d")))
    for place in data.draw(st.lists(st.integers(0, 3000), min_size=1, max_size=12)):
        whole[place] = data.draw(st.integers(0, 255))
    try:
        found = read_archive(bytes(whole))
    except UserError:
        return
    for name in found:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert name.isprintable()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    data = tar(("a", b"new"))
    full = write(tmp_path / "full", {"kept": b"old"})
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for out in (full, full / "kept", tmp_path / "link"):
        with pytest.raises(UserError, match="not an empty folder"):
            unpack(data, out)
    assert read(tmp_path) == {"full/kept": b"old"}
    (tmp_path / "empty").mkdir()
    unpack(data, tmp_path / "empty")
    assert read(tmp_path / "empty") == {"a": b"new"}


def test_links_are_not_packed(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {"a": b"1"})
    (folder / "link").symlink_to("/")
    with pytest.raises(UserError, match="not a regular file"):
        pack(folder)
    with pytest.raises(UserError, match="absent does not exist"):
        pack(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        pack(tmp_path / "empty")
