"""A run folder survives torn lines, doubled writes, damage and a second driver."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover import __version__
from spillover.errors import MachineError, UserError
from spillover.records.base import Judgment
from spillover.store.shard import parts
from spillover.store.store import Store


def rows(count: int) -> list[Judgment]:
    return [
        Judgment(completion=f"c{i}", judge="fake:0", aspect="alignment", score=float(i % 101)) for i in range(count)
    ]


def shard_file(store: Store) -> Path:
    return store.path / "rows" / "judge" / "k.jsonl"


def write(store: Store, items: list[Judgment]) -> None:
    with store.shard("judge", "k", Judgment) as shard:
        shard.append(*items)


@given(cut=st.integers(0, 2000), again=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_a_file_cut_at_any_byte_is_completed_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, cut: int, again: int
) -> None:
    store = Store(tmp_path_factory.mktemp("run"))
    write(store, rows(7))
    whole = store.content("judge", "k")
    (part,) = parts(shard_file(store))
    part.write_bytes(whole[: cut % (len(whole) + 1)])
    write(store, rows(again))
    write(store, rows(7))
    assert store.content("judge", "k") == whole
    with store.shard("judge", "k", Judgment) as shard:
        shard.finish()
    assert shard_file(store).read_bytes() == whole
    assert sorted(file.name for file in shard_file(store).parent.iterdir()) == ["k.done", "k.jsonl"]


def test_rows_round_trip_and_a_marker_means_complete(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    store.create()
    write(store, rows(3))
    assert not store.is_done("judge", "k")
    with store.shard("judge", "k", Judgment) as shard:
        shard.finish(seconds=1.5, tokens=0)
    assert store.is_done("judge", "k")
    assert store.facts("judge", "k") == {"rows": 3, "seconds": 1.5, "tokens": 0}
    assert store.read("judge", ["k", "absent"], Judgment) == rows(3)


def test_a_damaged_row_names_file_line_and_way_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.shard("judge", "k", Judgment) as shard:
        shard.append(*rows(3))
        shard.finish()
    lines = shard_file(store).read_text().splitlines()
    lines[1] = lines[1].replace('"c1"', '"c9"')  # the id no longer fits the content
    shard_file(store).write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"k\.jsonl, line 2: damaged row .*does not match.*Delete this file"):
        store.read("judge", ["k"], Judgment)


@pytest.mark.parametrize("manifest", ['{"spillover": "9.1.0"}', '{"spillover": "0.1.0"}', "no JSON", None])
def test_a_row_of_a_newer_version_is_refused_by_line_and_field_and_named(tmp_path: Path, manifest: str | None) -> None:
    store = Store(tmp_path)
    with store.shard("judge", "k", Judgment) as shard:
        shard.append(*rows(3))
        shard.finish()
    lines = shard_file(store).read_text().splitlines()
    lines[2] = lines[2].replace('"schema":1', '"schema":2').replace('"raw"', '"shade":1,"raw"')
    shard_file(store).write_text("\n".join(lines) + "\n")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError) as refused:
        store.read("judge", ["k"], Judgment)
    wrote = "spillover 9.1.0" if manifest and "9.1.0" in manifest else "a newer version of spillover"
    assert str(refused.value) == (
        f"{shard_file(store)}, line 3, schema 2 was written by {wrote}; the installed spillover {__version__} "
        "reads up to schema 1. Upgrade it: pip install --upgrade spillover"
    )
    with pytest.raises(UserError, match="line 3, schema 2"), store.shard("judge", "k", Judgment):
        pytest.fail("rows of a newer version are not written on")


def test_a_manifest_of_a_newer_version_or_a_damaged_one_is_a_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_json("manifest.json", {"schema": 2, "spillover": "9.1.0", "study": "s"})
    with pytest.raises(UserError, match=r"manifest\.json, schema 2 was written by spillover 9\.1\.0; .*Upgrade it"):
        store.read_manifest()
    store.write_json("manifest.json", {"spillover": "0.1.0"})
    with pytest.raises(UserError, match=r"manifest\.json: damaged row \(study: Field required\)\. Run the study again"):
        store.read_manifest()


def _hold(path: str, ready: multiprocessing.synchronize.Event, leave: multiprocessing.synchronize.Event) -> None:
    with Store(path).lock():
        ready.set()
        leave.wait(20)


def test_two_drivers_in_one_folder_are_refused_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    store = Store(tmp_path)
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, leave))
    other.start()
    assert ready.wait(20)
    with pytest.raises(UserError, match=rf"Another process \(pid {other.pid}\) is running in"), store.lock():
        pass
    other.kill()
    other.join()
    with store.lock():
        pass


def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="contains other files but no run"):
        Store(tmp_path).create()
    file = tmp_path / "thesis.txt"
    with pytest.raises(UserError, match="is a file"):
        Store(file).create()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = shard_file(store)
    path.parent.mkdir(parents=True)
    with store.shard("judge", "k", Judgment) as shard:
        os.dup2(os.open("/dev/full", os.O_WRONLY), shard._file)
        with pytest.raises(MachineError, match=r"No space left on the disk .* The finished rows are safe"):
            shard.append(*rows(1))
