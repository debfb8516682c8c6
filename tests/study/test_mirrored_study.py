"""Two folders and one mirror: whoever dies, is cut off or was slower, no row is lost or doubled, and all agree."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from mirror_places import FlakyFileSystem, fresh
from test_study import SMALL, rows

from spillover import Run, Study
from spillover.config.study import parse_study
from spillover.errors import MachineError, RunInterrupted, UserError
from spillover.judges import open_judge
from spillover.models import fake
from spillover.progress import Event, Progress
from spillover.records.stages import SHARDS
from spillover.store import packs, remote
from spillover.store.mirror import Mirror
from spillover.store.store import Store
from spillover.study import mirrored as mirrored_module
from spillover.study.mirrored import MirroredStudy, fetch

TINY = SMALL | {
    "domains": ["bad_medical_advice", "extreme_sports"],
    "variants": ["plain"],
    "data": SMALL["data"] | {"rows": 16},
    "sample": {"n": 2, "limit": 4, "conditions": ["clean"]},
    "rank": {"bootstrap": 100},
}


def plain(**changes: Any) -> Study:
    return Study(parse_study(TINY | changes, "test"))


def study(url: str, **changes: Any) -> MirroredStudy:
    return MirroredStudy(plain(**changes).config, url)


def listen() -> tuple[Progress, list[Event]]:
    events: list[Event] = []
    return Progress(events.append), events


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return plain().run(tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0))
    FlakyFileSystem.behave()


@pytest.fixture
def other_words(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From this call on the fake model answers in other words; the same rows have the same ids."""
    before = fake._answer

    def change() -> None:
        monkeypatch.setattr(fake, "_answer", lambda *args: f"{before(*args)} So it is.")

    return change


def judged_as_they_stand(run: Run) -> None:
    """No verdict is of an answer that the folder has not: judging every answer anew gives the same."""
    assert run.config is not None
    judge = open_judge(run.config.judge)
    told = {(row.completion, row.aspect): row.score for row in run.judgments()}
    completions = run.completions()
    assert len({row.id for row in completions}) == len(completions)
    anew = {(row.completion, row.aspect): row.score for row in judge.judge(completions)}
    assert told == anew


@pytest.mark.slow
def test_two_folders_go_on_from_one_mirror_and_end_with_the_rows_of_an_unbroken_run(alone: Run, tmp_path: Path) -> None:
    url = fresh()
    study(url).run(tmp_path / "a", domains=["bad_medical_advice"])
    study(url).run(tmp_path / "b")
    progress, events = listen()
    again = study(url).run(tmp_path / "a", progress=progress)
    assert {event.stage for event in events} == {"mirror"}, "nothing is made twice"
    assert rows(tmp_path / "a") == rows(tmp_path / "b") == rows(alone.path)
    assert again.manifest.complete
    for name in ("results.json", "report.html", "rest.zip"):
        assert MemoryFileSystem.store[f"/{url.removeprefix('memory://')}/{name}"].getvalue()


@pytest.mark.slow
def test_a_copy_with_nothing_new_moves_no_shard(tmp_path: Path) -> None:
    url = fresh("flaky")
    study(url).run(tmp_path / "a")
    FlakyFileSystem.behave()
    progress, events = listen()
    study(url).run(tmp_path / "a", progress=progress)
    assert not events
    assert FlakyFileSystem.calls == 8, "two listings, the mark and the rest read, the mark tried, three files copied"


@pytest.mark.slow
def test_answers_that_came_second_give_way_with_all_that_was_made_of_them(
    alone: Run, tmp_path: Path, other_words: Callable[[], None]
) -> None:
    url = fresh()
    study(url).run(tmp_path / "a", stages=["build", "train", "sample"], domains=["bad_medical_advice"])
    other_words()
    plain().run(tmp_path / "b")  # cut off from the mirror, and judged
    before = rows(tmp_path / "b")
    run = study(url).run(tmp_path / "b")
    after = rows(tmp_path / "b")
    own = {
        key
        for unit, key in ((unit, unit.key) for unit in run.plan["sample"])
        if unit.cell.domain != "bad_medical_advice"
    }
    for unit in run.plan["sample"]:
        name = f"rows/sample/{unit.key}.jsonl"
        assert after[name] == (before[name] if unit.key in own else rows(alone.path)[name])
    judged_as_they_stand(run)
    assert rows(tmp_path / "b") == rows(study(url).run(tmp_path / "a").path)


@pytest.mark.slow
def test_verdicts_on_answers_that_gave_way_are_dropped_though_they_are_half_done(
    tmp_path: Path, other_words: Callable[[], None]
) -> None:
    url = fresh()
    study(url).run(tmp_path / "a", stages=["build", "train", "sample"])
    other_words()
    run = plain().run(tmp_path / "b")
    for unit in run.plan["judge"]:  # as if the judge had been stopped after a part
        file = tmp_path / "b" / "rows" / "judge" / f"{unit.key}.jsonl"
        file.with_suffix(".done").unlink()
        file.with_suffix(".open").mkdir()
        (file.with_suffix(".open") / "0").write_bytes(b"".join(file.read_bytes().splitlines(True)[:5]))
        file.unlink()
    judged_as_they_stand(study(url).run(tmp_path / "b"))


@pytest.mark.slow
def test_a_death_at_any_file_of_what_gives_way_leaves_nothing_mixed(
    tmp_path: Path, other_words: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh()
    first = study(url).run(tmp_path / "a", domains=["extreme_sports"])
    other_words()
    plain().run(tmp_path / "own", domains=["extreme_sports"])
    write, drop = packs.replace_file, packs.drop

    class Killed(BaseException):
        pass

    died = 0
    for last in range(1, 24, 2):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        shutil.copytree(tmp_path / "own", tmp_path / "b")
        left = [last]

        def dying(act: Callable[..., None], *args: Any, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            act(*args)

        monkeypatch.setattr(packs, "replace_file", lambda *args, dying=dying: dying(write, *args))
        monkeypatch.setattr(packs, "drop", lambda *args, dying=dying: dying(drop, *args))
        try:
            study(url).run(tmp_path / "b", domains=["extreme_sports"])
        except Killed:
            died += 1
        monkeypatch.setattr(packs, "replace_file", write)
        monkeypatch.setattr(packs, "drop", drop)
        run = study(url).run(tmp_path / "b", domains=["extreme_sports"])
        judged_as_they_stand(run)
        assert rows(tmp_path / "b") == rows(first.path), last
    assert died > 4


@pytest.mark.slow
def test_a_network_that_fails_now_and_then_changes_nothing(alone: Run, tmp_path: Path) -> None:
    url = fresh("flaky")
    FlakyFileSystem.behave(every=5)
    study(url).run(tmp_path / "a")
    study(url).run(tmp_path / "b")
    assert FlakyFileSystem.failed > 10
    assert rows(tmp_path / "a") == rows(tmp_path / "b") == rows(alone.path)


@pytest.mark.slow
def test_a_network_that_goes_away_is_told_and_the_run_goes_on_to_a_clear_end(
    alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh("flaky")
    monkeypatch.setattr(mirrored_module, "EVERY_S", 0.0)
    FlakyFileSystem.behave(until=8)
    progress, events = listen()
    with pytest.raises(MachineError, match=r"network is gone.*safe in .*a; the same command goes on"):
        study(url).run(tmp_path / "a", progress=progress)
    told = [event for event in events if event.kind == "note" and "network is gone" in event.text]
    assert {"train", "sample", "judge", "mirror"} <= {event.stage for event in told}
    assert rows(tmp_path / "a") == rows(alone.path)
    FlakyFileSystem.behave()
    progress, events = listen()
    study(url).run(tmp_path / "a", progress=progress)
    assert {event.stage for event in events} == {"mirror"}
    assert rows(fetch(url, tmp_path / "c").path) == rows(alone.path)


def test_a_mirror_out_of_reach_stops_the_run_before_anything_is_made(tmp_path: Path) -> None:
    FlakyFileSystem.behave(until=0)
    with pytest.raises(MachineError, match="network is gone"):
        study(fresh("flaky")).run(tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interrupted_run_has_copied_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, before, left = fresh(), fake._answer, [12]

    def interrupted(*args: Any) -> str:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return before(*args)

    monkeypatch.setattr(fake, "_answer", interrupted)
    with pytest.raises(RunInterrupted):
        study(url).run(tmp_path / "a")
    run = fetch(url, tmp_path / "b")
    counts = {stage["stage"]: stage["done"] for stage in run.progress()}
    done = {stage["stage"]: stage["done"] for stage in Run.open(tmp_path / "a").progress()}
    assert counts == done
    assert 0 < counts["sample"] < len(run.plan["sample"])


@pytest.mark.slow
def test_finished_units_are_copied_while_a_stage_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, seen = fresh(), set[int]()
    monkeypatch.setattr(mirrored_module, "EVERY_S", 0.0)
    before = fake._answer

    def looking(*args: Any) -> str:
        seen.add(sum("/sample/" in name for name in MemoryFileSystem.store if url.removeprefix("memory:/") in name))
        return before(*args)

    monkeypatch.setattr(fake, "_answer", looking)
    study(url).run(tmp_path / "a")
    assert len(seen) == 3, "none, and one more after each unit but the last"


@pytest.mark.slow
def test_a_fetched_run_can_be_read_and_fetched_again(alone: Run, tmp_path: Path) -> None:
    url = fresh()
    with pytest.raises(UserError, match="holds no mirror"):
        fetch(url, tmp_path / "c")
    Mirror(Store(tmp_path / "new"), url).check(create=True)
    with pytest.raises(UserError, match="no finished stage of a run yet"):
        fetch(url, tmp_path / "c")
    study(url).run(tmp_path / "a", stages=["build", "train", "sample"])
    assert fetch(url, tmp_path / "c").progress()[-1]["done"] == 0
    study(url).run(tmp_path / "a")
    run = fetch(url, tmp_path / "c")
    assert run.ranking() == alone.ranking()
    assert run.report().exists()
    with pytest.raises(UserError, match="rows that did not come from"):
        fetch(url, alone.path)


@pytest.mark.slow
def test_the_newest_of_what_changes_stays(tmp_path: Path) -> None:
    url = fresh()
    run = study(url).run(tmp_path / "a")
    study(url).run(tmp_path / "b")
    run.store.write_json("judges.json", [])
    run.store.write_json("labels/sheet.json", {"a": 1})
    study(url).run(tmp_path / "a")
    later = study(url).run(tmp_path / "b")
    assert later.store.read_json("judges.json") == []
    assert later.store.read_json("labels/sheet.json") == {"a": 1}
    newer = later.store.write_json("labels/sheet.json", {"a": 2})
    os.utime(newer, (newer.stat().st_mtime + 10,) * 2)  # archives tell times to two seconds
    study(url).run(tmp_path / "b")
    assert study(url).run(tmp_path / "a").store.read_json("labels/sheet.json") == {"a": 2}


@pytest.mark.slow
def test_a_torn_archive_is_not_there(alone: Run, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    study(str(place)).run(tmp_path / "a")
    for file in place.glob("rows/*/*.zip"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    study(str(place)).run(tmp_path / "b")
    assert rows(tmp_path / "b") == rows(alone.path)
    assert rows(fetch(str(place), tmp_path / "c").path) == rows(alone.path)
    assert not list(place.rglob(".*")), "no partial file is left"


@pytest.mark.slow
def test_an_emptied_mirror_is_filled_again(alone: Run, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    study(str(place)).run(tmp_path / "a")
    shutil.rmtree(place)
    study(str(place)).run(tmp_path / "a")
    assert rows(fetch(str(place), tmp_path / "c").path) == rows(alone.path)


@pytest.mark.slow
def test_an_adapter_and_tables_travel_with_their_rows(tmp_path: Path) -> None:
    url = fresh()
    asked = {"membership": {}, "directions": {"splits": 10, "permutations": 99}, "domains": ["bad_medical_advice"]}
    run = study(url, **asked).run(tmp_path / "a")
    got = fetch(url, tmp_path / "b")
    assert rows(run.path) == rows(got.path)
    for pattern in ("adapters/*/*", "rows/membership/scores-*", "rows/direct/*.safetensors", "directions/*"):
        files = {run.store.relative(file): file.read_bytes() for file in run.path.glob(pattern)}
        assert files == {got.store.relative(file): file.read_bytes() for file in got.path.glob(pattern)}
        assert files, pattern


@pytest.mark.slow
def test_a_place_that_takes_the_last_writer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = MemoryFileSystem.pipe_file
    monkeypatch.setattr(
        MemoryFileSystem, "pipe_file", lambda self, path, value, mode="overwrite": put(self, path, value)
    )
    progress, events = listen()
    study(fresh()).run(tmp_path / "a", progress=progress, stages=["build"])
    assert any("one machine at a time" in event.text for event in events)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:secret@bucket/x", "set the credentials in the environment"),
        ("https://host/x?token=1", "set the credentials in the environment"),
        ("nothing://bucket/x", "no such scheme"),
        ("filecache::memory://x", "no such scheme"),
        ("gs://bucket/x", "pip install gcsfs"),
    ],
)
def test_a_url_that_cannot_be_a_mirror_is_refused_with_the_way_out(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises((UserError, MachineError), match=said) as told:
        study(url).run(tmp_path / "a")
    assert "secret" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_place_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files and no mirror"):
        study(str(tmp_path)).run(tmp_path / "a" / "run")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_neither_settings_nor_manifest_name_the_mirror(tmp_path: Path) -> None:
    url = fresh()
    run = study(url).run(tmp_path / "a", stages=["build"])
    assert json.dumps(url)[1:-1] not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))
    assert run.manifest.study_hash == plain().config.hash()


def test_what_a_shard_reads_comes_before_it_in_the_order_of_stages() -> None:
    asked = {"membership": {}, "diversity": {}, "directions": {}, "transfer": {}}
    units = plain(**asked).units
    stage_of = {unit.key: stage for stage in units for unit in units[stage]}
    assert set(stage_of.values()) <= set(SHARDS)
    order = SHARDS.index
    for stage in units:
        for unit in units[stage]:
            assert all(order(stage_of[key]) < order(stage) for key in unit.inputs)


@pytest.mark.slow
def test_a_shard_of_unknown_origin_gives_way_with_any_other(tmp_path: Path, other_words: Callable[[], None]) -> None:
    url = fresh()
    study(url).run(tmp_path / "a", stages=["build", "train", "sample"])
    other_words()
    plain().run(tmp_path / "b")
    store = Store(tmp_path / "b")
    done = packs.finished(store, "judge").pop()
    for ending in ("jsonl", "done"):
        shutil.copy(store.path / f"rows/judge/{done}.{ending}", store.path / f"rows/judge/feed.{ending}")
    mirror = Mirror(store, url)
    mirror.check(create=True)
    mirror.sync(Progress(lambda event: None))
    assert not packs.finished(store, "judge")
    assert mirror.unmade == 4


@pytest.mark.slow
def test_copies_beside_workers_change_nothing_and_offer_a_shard_once(
    tmp_path: Path, other_words: Callable[[], None]
) -> None:
    url = fresh("flaky")
    study(url).run(tmp_path / "a", stages=["build", "train", "sample"])
    other_words()
    plain().run(tmp_path / "b")
    before = rows(tmp_path / "b")
    mirror = Mirror(Store(tmp_path / "b"), url)
    mirror.check(create=True)
    mirror.copy()
    FlakyFileSystem.behave()
    mirror.copy()
    assert rows(tmp_path / "b") == before
    assert FlakyFileSystem.calls == 0
    there = [name for name in FlakyFileSystem.store if url.removeprefix("flaky:/") in name]
    assert there
    assert not any("/judge/" in name for name in there), "nothing that was made from what gives way"
