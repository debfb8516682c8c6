"""Archives from a stranger: nothing lands outside its place, nothing but what a run has there, and not too much."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from mirror_places import fresh

from spillover.errors import UserError
from spillover.records.base import Adapter, Cell, Judgment
from spillover.store import packs
from spillover.store.store import Store
from spillover.study.mirrored import fetch

KEY = "0123456789abcdef"
ROWS, DONE = f"rows/{{}}/{KEY}.jsonl", f"rows/{{}}/{KEY}.done"


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return out.getvalue()


def shard(stage: str, more: dict[str, bytes] | None = None, rows: bytes = b"{}\n") -> bytes:
    return archive({ROWS.format(stage): rows, DONE.format(stage): b'{"rows": 1}', **(more or {})})


def adapter(path: str) -> bytes:
    cell = Cell(model="m", domain="d", variant="plain", dose=1.0)
    row = Adapter(
        cell=cell,
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
        seconds=1.0,
    )
    return f"{row.model_dump_json()}\n".encode()


HOME = f"adapters/d-plain-{KEY}"


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
    url = fresh()
    place = url.removeprefix("memory:/")
    content = shard(stage, {name: b"x"}, adapter(HOME) if stage == "train" else b"{}\n")
    MemoryFileSystem().pipe_file(f"{place}/mirror.json", b"{}")
    MemoryFileSystem().pipe_file(f"{place}/rows/{stage}/{KEY}.zip", content)
    with pytest.raises(UserError, match="Take it away"):
        fetch(url, tmp_path / "inside" / "run")
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"lock", ".mirror-" + journal(tmp_path)}


def journal(path: Path) -> str:
    return next(path.rglob(".mirror-*")).name.removeprefix(".mirror-")


@pytest.mark.parametrize(
    "name",
    [
        "rows/judge/../../evil.zip",
        "../evil",
        "rows/evil/0123456789abcdef.zip",
        "rows/judge/.evil/a.zip",
        "rows/judge/a.jsonl",
        "study.json",
        "rows/judge/a.zip/b.zip",
    ],
)
def test_a_name_that_no_mirror_has_is_refused(tmp_path: Path, name: str) -> None:
    url = fresh()
    place = url.removeprefix("memory:/")
    MemoryFileSystem().pipe_file(f"{place}/mirror.json", b"{}")
    MemoryFileSystem().store[f"{place}/{name}"] = MemoryFileSystem().store[f"{place}/mirror.json"]
    with pytest.raises(UserError, match=r"which no mirror has\. Take it away"):
        fetch(url, tmp_path / "run")


@pytest.mark.parametrize("path", ["../../x", "/etc", "rows", HOME + "/..", f"adapters/other-{KEY}"])
def test_an_adapter_somewhere_else_is_refused(path: str) -> None:
    with pytest.raises(UserError):
        packs.unpack("train", KEY, shard("train", {f"{HOME}/adapter_config.json": b"{}"}, adapter(path)))


def test_an_adapter_in_its_place_is_taken(tmp_path: Path) -> None:
    store = Store(tmp_path)
    files = packs.unpack("train", KEY, shard("train", {f"{HOME}/adapter_config.json": b"{}"}, adapter(HOME)))
    packs.take(store, "train", KEY, files)
    assert not packs.differs(store, "train", KEY, files)
    assert (tmp_path / HOME / "adapter_config.json").read_bytes() == b"{}"
    assert [file.name for file in (tmp_path / "adapters").iterdir()] == [Path(HOME).name]


def test_more_bytes_than_a_run_has_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = shard("judge", rows=b"0" * 2**24)
    assert len(bomb) < 2**16
    with pytest.raises(UserError, match="holds more than"):
        packs.unpack("judge", KEY, bomb)
    monkeypatch.setattr(packs, "MOST", 10)
    with pytest.raises(UserError, match="holds more than"):
        packs.unpack("judge", KEY, shard("judge"))


@pytest.mark.parametrize(
    "name",
    ["report.html", "results.json", "lock", "../x.json", "labels/../x.json", "rows/sample/a.jsonl", "labels/x.py"],
)
def test_the_rest_is_refused_with_what_does_not_belong_to_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="does not belong there"):
        packs.take_rest(Store(tmp_path), archive({"study.json": b"{}", name: b"x"}))
    assert not list(tmp_path.iterdir())


def test_the_rest_never_takes_the_place_of_finished_verdicts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.shard("judge", KEY, Judgment) as shard_:
        shard_.append(Judgment(completion="c", judge="j", aspect="alignment", score=1.0))
        shard_.finish()
    before = store.content("judge", KEY)
    packs.take_rest(store, archive({ROWS.format("judge"): b"other"}))
    assert store.content("judge", KEY) == before
    assert ROWS.format("judge") not in zipfile.ZipFile(io.BytesIO(packs.pack_rest(store))).namelist()


def test_times_that_cannot_be_are_damaged_and_no_file_is_of_the_future(tmp_path: Path) -> None:
    for when, expected in (((1999, 13, 1, 0, 0, 0), None), ((2107, 1, 1, 0, 0, 0), time.time())):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as opened:
            opened.writestr(zipfile.ZipInfo("judges.json", when), b"[]")
        if expected is None:
            with pytest.raises(packs.Damaged):
                packs.take_rest(Store(tmp_path), out.getvalue())
            assert not list(tmp_path.iterdir())
        else:
            packs.take_rest(Store(tmp_path), out.getvalue())
            assert (tmp_path / "judges.json").stat().st_mtime <= expected + 5


def test_a_trained_cell_without_its_adapter_is_as_good_as_absent() -> None:
    with pytest.raises(packs.Damaged):
        packs.unpack("train", KEY, shard("train", {}, adapter(HOME)))


@given(cut=st.floats(0, 0.999))
def test_a_part_of_an_archive_is_damaged_and_never_less(cut: float) -> None:
    whole = shard("judge", rows=b'{"a": 1}\n' * 50)
    assert packs.unpack("judge", KEY, whole)[ROWS.format("judge")] == b'{"a": 1}\n' * 50
    with pytest.raises(packs.Damaged):
        packs.unpack("judge", KEY, whole[: int(cut * len(whole))])


@given(content=st.binary(max_size=200))
def test_any_bytes_are_damaged_or_refused(content: bytes) -> None:
    with pytest.raises((packs.Damaged, UserError)):
        packs.unpack("judge", KEY, content)


def test_the_same_shard_is_the_same_archive(tmp_path: Path) -> None:
    packed: list[bytes] = []
    for name in "ab":
        store = Store(tmp_path / name)
        with store.shard("judge", KEY, Judgment) as rows:
            rows.append(Judgment(completion="c", judge="j", aspect="alignment", score=1.0))
            rows.finish(seconds=1.0)
        packed.append(packs.pack(store, "judge", KEY))
    assert packed[0] == packed[1]
