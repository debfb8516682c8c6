"""Two writers of one shard, on machines that know nothing of each other: no row is lost, doubled or mixed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spillover.errors import MachineError
from spillover.records.base import Judgment
from spillover.store.shard import Shard, disk_errors, parts
from spillover.store.store import Store

WANTED = 6


def row(number: int, writer: str = "") -> Judgment:
    """The same row, with the same id, has other words when another writer makes it."""
    return Judgment(completion=f"c{number}", judge="fake:0", aspect="alignment", score=1.0, raw=writer)


class Writer:
    """A stage that makes what is missing, row by row."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.shard = Shard(path, Judgment).__enter__()
        self.done = False

    def step(self) -> None:
        left = [number for number in range(WANTED) if row(number).id not in self.shard]
        if left:
            self.shard.append(row(left[0], self.name))
        elif not self.done:
            self.shard.finish(by=self.name)
            self.done = True


@pytest.mark.slow
@given(st.lists(st.sampled_from(["a", "b", "c", "open a", "open b", "open c", "leave a", "kill a", "kill b"])))
@example(["open c", *["c"] * WANTED, "open a", "leave a", "c"])  # c was whole, and a left with all of its rows
@settings(max_examples=150, deadline=None)
def test_whoever_writes_dies_and_comes_back_every_row_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, script: list[str]
) -> None:
    path = tmp_path_factory.mktemp("run") / "k.jsonl"
    writers: dict[str, Writer] = {}
    published: bytes | None = None
    for line in [*script, "open z", *["z"] * (WANTED + 1)]:
        verb, _, name = line.rpartition(" ")
        writer = writers.get(name)
        if verb == "open" and writer is None:
            writers[name] = Writer(path, name)
        elif verb == "leave" and writer:
            writers.pop(name).shard.__exit__(None, None, None)
        elif verb == "kill" and writer:  # no code of the writer runs any more; a line is torn
            shard = writers.pop(name).shard
            if not path.exists():
                os.write(shard._file, b'{"torn')
        elif writer:
            writer.step()
        if path.exists():  # published once, and never changed by those who come late
            published = published or path.read_bytes()
            assert path.read_bytes() == published
    found = [Judgment.model_validate_json(line) for line in path.read_bytes().splitlines()]
    assert [item.id for item in found] == [row(number).id for number in range(WANTED)]
    assert path.with_suffix(".done").exists()


def test_what_a_lost_writer_left_is_taken_up_and_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "k.jsonl"
    lost = Shard(path, Judgment).__enter__()
    lost.append(row(0), row(1))
    with Shard(path, Judgment) as second:
        assert [item.id for item in second.rows] == [row(0).id, row(1).id]
        second.append(row(2))
    assert len(parts(path)) == 1, "what stands in another file is not kept twice"
    lost.append(row(3, "late"))  # its file is gone, and nobody reads it
    with Shard(path, Judgment) as third:
        assert [item.raw for item in third.rows] == [""] * 3
        third.append(row(3))
        third.finish()
    lost.finish()
    assert [item.raw for item in Shard(path, Judgment).__enter__().rows] == [""] * 4


def test_rows_that_were_never_complete_give_way_to_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "k.jsonl"
    path.write_text(row(0).model_dump_json() + "\n")
    with Shard(path, Judgment) as shard:
        shard.append(row(0), row(1))
        shard.finish()
    assert len(path.read_text().splitlines()) == 2


def test_a_disk_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "k.jsonl"
    with Shard(path, Judgment) as shard:
        shard.append(row(0))
        shard.finish()
    assert len(path.read_text().splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["k.done", "k.jsonl"]


def test_rows_finished_elsewhere_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="another process has finished"), disk_errors(tmp_path):
        raise OSError(errno.ESTALE, "Stale file handle")


def test_the_first_adapter_in_its_place_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("first", "second"):
        made = tmp_path / name
        made.mkdir()
        (made / "weights").write_text(name)
        store.publish(made, tmp_path / "adapters" / "a")
    assert (tmp_path / "adapters" / "a" / "weights").read_text() == "first"
