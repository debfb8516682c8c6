"""A mirror as such: what is copied when, what is verified, and what a stranger's mirror cannot do."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from mirror_places import FlakyFileSystem, fresh

from spillover.errors import MachineError, SpilloverError, UserError
from spillover.progress import Progress
from spillover.records.base import Adapter, Cell, Judgment
from spillover.store import mirror as mirror_module
from spillover.store import remote
from spillover.store.mirror import Conflict, Mirror, fetch
from spillover.store.store import Store

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
ROWS, DONE = f"rows/{{}}/{KEY}.jsonl", f"rows/{{}}/{KEY}.done"
HOME = f"adapters/d-plain-{KEY}"
QUIET = Progress(lambda event: None)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0))
    FlakyFileSystem.behave()


def judged(store: Store, key: str = KEY, score: float = 1.0, seconds: float = 1.0, stage: str = "judge") -> None:
    with store.shard(stage, key, Judgment) as shard:
        shard.append(Judgment(completion="c", judge="j", aspect="alignment", score=score))
        shard.finish(seconds=seconds)


def opened(path: Path, url: str) -> Mirror:
    store = Store(path)
    store.create()
    mirror = Mirror(store, url)
    mirror.open(create=True)
    return mirror


def adapter(path: str, seconds: float = 1.0) -> bytes:
    row = Adapter(
        cell=Cell(model="m", domain="d", variant="plain", dose=1.0),
        key=KEY,
        base="m",
        revision="",
        train_hash="",
        path=path,
        examples=1,
        steps=1,
        loss_curve=(1.0,),
        loss_tokens=1,
        tokens=1,
        seconds=seconds,
    )
    return f"{row.model_dump_json()}\n".encode()


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return out.getvalue()


def shard(stage: str, more: dict[str, bytes] | None = None, rows: bytes = b"{}\n") -> bytes:
    return archive({ROWS.format(stage): rows, DONE.format(stage): b'{"rows": 1}', **(more or {})})


def write(url: str, name: str, content: bytes) -> None:
    MemoryFileSystem().pipe_file(f"{url.removeprefix('memory:/')}/{name}", content)


def offered(stage: str, content: bytes, **marker: Any) -> str:
    """A mirror of a stranger with one shard, whose marker fits unless `marker` says otherwise."""
    url, digest = fresh(), hashlib.sha256(content).hexdigest()
    write(url, "mirror.json", b'{"schema": 2, "id": "x"}')
    write(url, f"rows/{stage}/{KEY}.{digest[:16]}.zip", content)
    facts = {"bytes": len(content), "sha256": digest, "content": "x"} | marker
    write(url, f"rows/{stage}/{KEY}.done", json.dumps(facts).encode())
    return url


def nothing_taken(path: Path) -> bool:
    names = {file.name for file in path.rglob("*") if file.is_file()}
    return names <= {"lock", *(name for name in names if name.startswith(".mirror-"))}


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("judge", "../../evil"),
        ("judge", "/etc/evil"),
        ("judge", "rows/judge/../../evil.jsonl"),
        ("judge", f"rows/sample/{KEY}.jsonl"),
        ("judge", "rows/judge/another.jsonl"),
        ("judge", f"rows/judge/scores-{KEY}.parquet"),
        ("judge", "lock"),
        ("judge", "study.json"),
        ("judge", f"{HOME}/adapter_model.safetensors"),
        ("train", f"{HOME}/adapter_model.bin"),
        ("train", f"{HOME}/model.pkl"),
        ("train", f"{HOME}/../../evil.json"),
        ("train", f"{HOME}/.hidden.json"),
        ("train", f"{HOME}/"),
        ("train", "adapters/d-plain-another/a.json"),
        ("train", f"adapters/e-plain-{KEY}/a.json"),
        ("direct", f"rows/direct/{KEY}.pt"),
        ("membership", "rows/membership/scores-.parquet"),
        ("judge", f"rows\\judge\\{KEY}.jsonl"),
        ("judge", f"rows/judge/{KEY}.jsonl\n"),
    ],
)
def test_a_shard_with_what_does_not_belong_to_it_is_refused_whole(tmp_path: Path, stage: str, name: str) -> None:
    url = offered(stage, shard(stage, {name: b"x"}, adapter(HOME) if stage == "train" else b"{}\n"))
    with pytest.raises(UserError, match=r"Delete (the archive|it)"):
        fetch(url, tmp_path / "inside" / "run", QUIET)
    assert nothing_taken(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "rows/judge/../../evil.zip",
        "../evil",
        f"rows/evil/{KEY}.done",
        "rows/judge/.evil/a.zip",
        "rows/judge/a.jsonl",
        "rows/judge/a-b.done",
        "study.json",
        f"rows/judge/{KEY}.zip",
        "rows/judge/a.zip/b.zip",
    ],
)
def test_a_name_that_no_mirror_has_is_refused(tmp_path: Path, name: str) -> None:
    url = fresh()
    write(url, "mirror.json", b'{"schema": 2, "id": "x"}')
    files = MemoryFileSystem.store
    files[f"{url.removeprefix('memory:/')}/{name}"] = files[f"{url.removeprefix('memory:/')}/mirror.json"]
    with pytest.raises(UserError, match=r"does not belong in a mirror\. Delete it"):
        fetch(url, tmp_path / "run", QUIET)
    assert nothing_taken(tmp_path)


@pytest.mark.parametrize("schema", [1, 3, 20])
def test_a_mirror_of_another_version_is_refused(tmp_path: Path, schema: int) -> None:
    url = fresh()
    write(url, "mirror.json", json.dumps({"schema": schema, "id": "x"}).encode())
    with pytest.raises(UserError, match="another version"):
        fetch(url, tmp_path / "run", QUIET)


@pytest.mark.parametrize("path", ["../../x", "/etc", "rows", HOME + "/..", f"adapters/other-{KEY}"])
def test_an_adapter_somewhere_else_is_refused(tmp_path: Path, path: str) -> None:
    url = offered("train", shard("train", {f"{HOME}/adapter_config.json": b"{}"}, adapter(path)))
    with pytest.raises(UserError):
        fetch(url, tmp_path, QUIET)
    assert nothing_taken(tmp_path)


@pytest.mark.parametrize("rows", [b"", b"{}\n", adapter(HOME)])
def test_a_trained_cell_without_its_adapter_is_refused(tmp_path: Path, rows: bytes) -> None:
    with pytest.raises(UserError):
        fetch(offered("train", shard("train", {}, rows)), tmp_path, QUIET)
    assert nothing_taken(tmp_path)


def test_rows_that_describe_an_adapter_without_end_are_not_read(tmp_path: Path) -> None:
    endless = shard("train", {f"{HOME}/adapter_config.json": b"{}"}, os.urandom(2**17).hex().encode() * 100)
    tracemalloc.start()
    with pytest.raises(UserError, match="does not name an adapter"):
        fetch(offered("train", endless), tmp_path, QUIET)
    assert tracemalloc.get_traced_memory()[1] < 5 * 2**24
    tracemalloc.stop()


def test_an_adapter_and_what_lay_in_its_place(tmp_path: Path) -> None:
    url = offered("train", shard("train", {f"{HOME}/adapter_config.json": b"{}"}, adapter(HOME)))
    left = tmp_path / "run" / HOME  # by a process that was killed before it had finished the shard
    left.mkdir(parents=True)
    (left / "adapter_config.json").write_text("half")
    (tmp_path / "run" / "rows" / "train" / f"{KEY}.open").mkdir(parents=True)
    with pytest.raises(UserError, match="no finished stage"):
        fetch(url, tmp_path / "run", QUIET)
    assert (left / "adapter_config.json").read_bytes() == b"{}"
    assert [path.name for path in left.parent.iterdir()] == [left.name]
    assert sorted(os.listdir(tmp_path / "run" / "rows" / "train")) == [f"{KEY}.done", f"{KEY}.jsonl"]


@pytest.mark.parametrize(
    "marker",
    [
        {"bytes": 10},
        {"bytes": 10**6},
        {"sha256": "0" * 64},
        {"bytes": -1},
        {"bytes": 2**40},
        {"sha256": "../x"},
        {"x": 1},
    ],
)
def test_a_download_that_its_marker_does_not_describe_takes_no_name(tmp_path: Path, marker: dict[str, Any]) -> None:
    url = offered("judge", shard("judge"), **marker)
    with pytest.raises(SpilloverError, match=r"not match its marker\. Delete|not a marker"):
        fetch(url, tmp_path, QUIET)
    assert nothing_taken(tmp_path)


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too large for a run folder"):
        fetch(offered("judge", shard("judge", rows=b"0" * 2**24)), tmp_path, QUIET)
    assert nothing_taken(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["report.html", "results.json", "lock", "../x.json", "labels/../x.json", "rows/sample/a.jsonl", "labels/x.py"],
)
def test_the_rest_is_refused_with_what_does_not_belong_to_it(tmp_path: Path, name: str) -> None:
    url = fresh()
    mirror = opened(tmp_path, url)
    write(url, "rest.zip", archive({"study.json": b"{}", name: b"x"}))
    with pytest.raises(UserError, match="does not belong there"):
        mirror.pull_rest()
    assert nothing_taken(tmp_path)


def test_the_rest_never_takes_the_place_of_finished_judgments(tmp_path: Path) -> None:
    url = fresh()
    mirror = opened(tmp_path, url)
    judged(mirror.store)
    before = mirror.store.content("judge", KEY)
    write(url, "rest.zip", archive({ROWS.format("judge"): b"other"}))
    mirror.pull_rest()
    assert mirror.store.content("judge", KEY) == before
    mirror.push_rest()
    content = MemoryFileSystem().cat_file(f"{url.removeprefix('memory:/')}/rest.zip")
    assert ROWS.format("judge") not in zipfile.ZipFile(io.BytesIO(content)).namelist()


@pytest.mark.parametrize("when", [(1999, 13, 1, 0, 0, 0), (2107, 1, 1, 0, 0, 0)])
def test_impossible_times_are_ignored_and_no_file_is_of_the_future(tmp_path: Path, when: Any) -> None:
    url, out = fresh(), io.BytesIO()
    mirror = opened(tmp_path, url)
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("study.json", b"{}")
        made.writestr(zipfile.ZipInfo("judges.json", when), b"[]")
    write(url, "rest.zip", out.getvalue())
    mirror.pull_rest()
    if when[1] == 13:
        assert nothing_taken(tmp_path)
    else:
        (tmp_path / "now").touch()
        assert (tmp_path / "judges.json").stat().st_mtime <= (tmp_path / "now").stat().st_mtime


@pytest.mark.parametrize(
    "content", [b"", b"no zip", archive({"study.json": b"{}" * 99})[:60]], ids=["empty", "no zip", "cut"]
)
def test_a_rest_that_is_not_whole_is_ignored(tmp_path: Path, content: bytes) -> None:
    url = fresh()
    mirror = opened(tmp_path, url)
    write(url, "rest.zip", content)
    mirror.pull_rest()
    assert nothing_taken(tmp_path)


def test_equal_rows_are_one_shard_whoever_made_them_and_in_what_time(tmp_path: Path) -> None:
    url = fresh()
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        mirror = opened(tmp_path / name, url)
        judged(mirror.store, seconds=seconds)
        mirror.push()
    assert Store(tmp_path / "b").facts("judge", KEY)["seconds"] == 2.0
    with pytest.raises(UserError, match="no finished stage"):
        fetch(url, tmp_path / "c", QUIET)
    assert Store(tmp_path / "c").facts("judge", KEY)["seconds"] == 1.0


@pytest.mark.parametrize("weights", [b"{}", b"[]"])
def test_equal_adapters_are_one_shard_in_whatever_time_they_were_trained(tmp_path: Path, weights: bytes) -> None:
    url = offered("train", shard("train", {f"{HOME}/adapter_config.json": weights}, adapter(HOME)))
    with pytest.raises(UserError, match="no finished stage"):
        fetch(url, tmp_path / "a", QUIET)
    elsewhere = opened(tmp_path / "a", fresh())
    elsewhere.push()
    own = opened(tmp_path / "b", elsewhere.url)
    for name, content in ((ROWS, adapter(HOME, seconds=2.0)), (DONE, b"{}"), (f"{HOME}/adapter_config.json", b"{}")):
        path = own.store.path / name.format("train")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if weights == b"{}":
        own.pull(QUIET)
    else:
        with pytest.raises(Conflict):
            own.pull(QUIET)


def test_a_shard_that_was_deleted_here_is_taken_again(tmp_path: Path) -> None:
    mirror = opened(tmp_path, fresh())
    judged(mirror.store)
    mirror.push()
    for name in (ROWS, DONE):
        (tmp_path / name.format("judge")).unlink()
    opened(tmp_path, mirror.url).pull(QUIET)
    assert Store(tmp_path).read("judge", [KEY], Judgment)[0].score == 1.0


def test_a_second_copy_with_other_bytes_is_refused_both_ways_and_named(tmp_path: Path) -> None:
    url = fresh()
    first, second = opened(tmp_path / "a", url), opened(tmp_path / "b", url)
    judged(first.store, stage="sample")
    first.push()
    judged(second.store, stage="sample", score=2.0)
    judged(second.store, OTHER)  # made from it, perhaps
    before = dict(MemoryFileSystem.store)
    for copy in (second.push, second.push, lambda: opened(tmp_path / "b", url).pull(QUIET)):
        with pytest.raises(Conflict) as refused:
            copy()
        for named in (f"{tmp_path}/b/rows/sample/{KEY}.jsonl", f"{url}/rows/sample/{KEY}.", "--out", "--mirror"):
            assert named in str(refused.value)
    assert MemoryFileSystem.store == before, "nothing of a later stage was copied"
    assert Store(tmp_path / "b").read("sample", [KEY], Judgment)[0].score == 2.0


def test_of_two_at_once_one_marker_stays_and_fits_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other machine uploads both files between our archive and our marker."""
    url = fresh()
    first, second = opened(tmp_path / "a", url), opened(tmp_path / "b", url)
    judged(first.store)
    judged(second.store, score=2.0)
    upload = remote.Remote.upload

    def overtaken(self: Any, path: Path, name: str) -> None:
        monkeypatch.setattr(remote.Remote, "upload", upload)
        upload(self, path, name)
        second.push()

    monkeypatch.setattr(remote.Remote, "upload", overtaken)
    with pytest.raises(Conflict):
        first.push()
    with pytest.raises(UserError, match="no finished stage"):
        fetch(url, tmp_path / "c", QUIET)
    assert Store(tmp_path / "c").read("judge", [KEY], Judgment)[0].score == 2.0


class Killed(BaseException):
    """The process dies here."""


def dying(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, last: int) -> Callable[[], None]:
    """From call number `last` on, nothing that `name` does happens any more."""
    act, left = getattr(owner, name), [last]

    def call(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return act(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return lambda: monkeypatch.setattr(owner, name, act)


@pytest.mark.parametrize("name", ["upload", "create"])
def test_a_death_at_any_upload_leaves_shards_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(mirror_module, "AT_ONCE", 1)
    for last in range(4):
        url = fresh()
        mirror = opened(tmp_path / "a", url)
        for number in range(3):
            judged(mirror.store, f"{number:016x}") if not last else None
        revived = dying(monkeypatch, remote.Remote, name, last)
        if last < 3:
            with pytest.raises(Killed):
                mirror.push()
        else:
            mirror.push()
        revived()
        with pytest.raises(UserError, match="no finished stage"):
            fetch(url, tmp_path / f"{last}", QUIET)
        assert len(Store(tmp_path / f"{last}").finished("judge")) == last
        opened(tmp_path / "a", url).push()
        with pytest.raises(UserError, match="no finished stage"):
            fetch(url, tmp_path / f"{last}", QUIET)
        assert len(Store(tmp_path / f"{last}").finished("judge")) == 3


def test_a_death_at_any_file_of_a_download_leaves_shards_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = offered("train", shard("train", {f"{HOME}/a.json": b"{}", f"{HOME}/b.json": b"{}"}, adapter(HOME)))
    for last in range(3):
        for owner, name in ((os, "replace"), (Path, "rename"), (shutil, "copyfileobj")):
            path = tmp_path / f"{last}-{name}"
            revived = dying(monkeypatch, owner, name, last)
            with suppress(Killed, UserError):
                fetch(url, path, QUIET)
            revived()
            assert not Store(path).is_done("train", KEY) or (path / HOME / "b.json").exists()
            with pytest.raises(UserError, match="no finished stage"):
                fetch(url, path, QUIET)
            assert Store(path).finished("train") == {KEY}
            assert sorted(os.listdir(path / HOME)) == ["a.json", "b.json"]
            assert not list(path.glob(".copying-*"))


def test_a_large_archive_never_lies_in_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CHUNK", 2**16)
    big = os.urandom(2**24)
    made = shard(
        "train", {f"{HOME}/adapter_model.safetensors": big, f"{HOME}/adapter_config.json": b"{}"}, adapter(HOME)
    )
    url = str(tmp_path / "mirror")
    mirror = opened(tmp_path / "new", url)
    digest = hashlib.sha256(made).hexdigest()
    (tmp_path / "mirror/rows/train").mkdir(parents=True)
    (tmp_path / f"mirror/rows/train/{KEY}.{digest[:16]}.zip").write_bytes(made)
    facts = {"bytes": len(made), "sha256": digest, "content": "x"}
    (tmp_path / f"mirror/rows/train/{KEY}.done").write_text(json.dumps(facts))
    del made
    tracemalloc.start()
    mirror.pull(QUIET)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()
    assert (tmp_path / "new" / HOME / "adapter_model.safetensors").read_bytes() == big
    again = opened(tmp_path / "new", str(tmp_path / "second"))
    tracemalloc.start()
    again.push()
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_a_flaky_network_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "AT_ONCE", 1)  # so that no call fails three times running
    url = fresh("flaky")
    mirror = opened(tmp_path / "a", url)
    for number in range(40):
        judged(mirror.store, f"{number:016x}")
    FlakyFileSystem.behave(every=2)
    mirror.push()
    opened(tmp_path / "b", url).pull(QUIET)
    assert FlakyFileSystem.failed > 20
    assert len(Store(tmp_path / "b").finished("judge")) == 40
    FlakyFileSystem.behave(until=0)
    with pytest.raises(MachineError, match=r"network is gone.*safe in"):
        opened(tmp_path / "b", url)


def test_what_was_copied_is_not_offered_again(tmp_path: Path) -> None:
    url = fresh("flaky")
    mirror = opened(tmp_path / "a", url)
    judged(mirror.store)
    mirror.push()
    FlakyFileSystem.behave()
    mirror.push()
    assert FlakyFileSystem.calls == 0
    again = opened(tmp_path / "a", url)
    FlakyFileSystem.behave()
    again.pull(QUIET)
    again.push()
    assert FlakyFileSystem.calls == 1, "one listing"
