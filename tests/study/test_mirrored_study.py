"""Two folders and one mirror: whichever dies, is cut off or is slower, no row is lost, doubled or mixed with others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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
from spillover.store import mirror, remote
from spillover.store.mirror import Conflict, Mirror
from spillover.store.store import Store
from spillover.study import mirrored as mirrored_module
from spillover.study.mirrored import MirroredStudy

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


def fetch(url: str, out: Path) -> Run:
    return Run(mirror.fetch(url, out, listen()[0]))


@pytest.fixture
def other_words(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From this call on the fake model completes in other words, with other scores; the same rows have the same ids."""
    before = fake._completion

    def change() -> None:
        monkeypatch.setattr(fake, "_completion", lambda rng, *rest: before(np.random.default_rng(rng), *rest) + " So.")

    return change


def judged_as_they_stand(run: Run) -> None:
    """Every judgment is of a completion that the folder has: judging all of them again gives the same."""
    assert run.config is not None
    judge = open_judge(run.config.judge)
    before = {(row.completion, row.aspect): row.score for row in run.judgments()}
    completions = run.completions()
    assert len({row.id for row in completions}) == len(completions)
    again = {(row.completion, row.aspect): row.score for row in judge.judge(completions)}
    assert before == again


@pytest.mark.slow
def test_two_folders_resume_from_one_mirror_and_end_with_the_rows_of_an_unbroken_run(
    alone: Run, tmp_path: Path
) -> None:
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
    assert FlakyFileSystem.calls == 8, "the mark read and tried, one listing, the rest's size and bytes, three files"


@pytest.mark.slow
def test_a_folder_with_other_completions_is_refused_and_a_new_one_resumes(
    tmp_path: Path, other_words: Callable[[], None]
) -> None:
    url = fresh()
    study(url).run(tmp_path / "a", stages=["build", "train", "sample"], domains=["bad_medical_advice"])
    other_words()
    plain().run(tmp_path / "b")  # cut off from the mirror, and judged
    own, there = rows(tmp_path / "b"), dict(MemoryFileSystem.store)
    progress, events = listen()
    with pytest.raises(Conflict, match=r"different bytes.*--out"):
        study(url).run(tmp_path / "b", progress=progress)
    assert {event.stage for event in events} == {"mirror"}
    assert rows(tmp_path / "b") == own, "nothing is lost or replaced"
    assert there == MemoryFileSystem.store
    run = study(url).run(tmp_path / "new")
    judged_as_they_stand(run)
    assert {row.text.endswith(" So.") for row in run.completions()} == {True, False}
    first = study(url).run(tmp_path / "a")
    judged_as_they_stand(first)
    assert rows(first.path) == rows(run.path) == rows(fetch(url, tmp_path / "c").path)


@pytest.mark.slow
def test_a_run_ends_once_another_machine_has_copied_other_completions(
    tmp_path: Path, other_words: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, before = fresh(), fake._completion
    monkeypatch.setattr(mirrored_module, "EVERY_S", 0.0)

    def overtaken(*args: Any) -> str:
        other_words()
        study(url).run(tmp_path / "b")
        monkeypatch.setattr(fake, "_completion", before)
        return before(*args)

    monkeypatch.setattr(fake, "_completion", overtaken)
    with pytest.raises(Conflict):
        study(url).run(tmp_path / "a")
    store = Store(tmp_path / "a")
    assert len(store.finished("sample")) == 1, "the run ends after the first unit that differs"
    assert not store.read_manifest().complete
    assert rows(tmp_path / "b") == rows(study(url).run(tmp_path / "c").path)
    plain().run(tmp_path / "a")
    judged_as_they_stand(Run.open(tmp_path / "a"))
    with pytest.raises(Conflict):
        study(url).run(tmp_path / "a")
    judged_as_they_stand(fetch(url, tmp_path / "d"))


@pytest.mark.slow
def test_a_network_that_fails_now_and_then_changes_nothing(alone: Run, tmp_path: Path) -> None:
    url = fresh("flaky")
    FlakyFileSystem.behave(every=5)
    study(url).run(tmp_path / "a")
    study(url).run(tmp_path / "b")
    assert FlakyFileSystem.failed > 10
    assert rows(tmp_path / "a") == rows(tmp_path / "b") == rows(alone.path)


@pytest.mark.slow
def test_a_network_that_goes_away_is_reported_and_the_run_reaches_a_clear_end(
    alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh("flaky")
    monkeypatch.setattr(mirrored_module, "EVERY_S", 0.0)
    FlakyFileSystem.behave(until=8)
    progress, events = listen()
    with pytest.raises(MachineError, match=r"network is gone.*safe in .*a\. Run the same command again"):
        study(url).run(tmp_path / "a", progress=progress)
    noted = {event.stage for event in events if event.kind == "note" and "network is gone" in event.text}
    assert noted == {"build", "train", "sample", "judge"}
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


def test_a_mistake_in_the_study_is_found_before_there_is_a_mirror(tmp_path: Path) -> None:
    url = str(tmp_path / "mirror")
    with pytest.raises(UserError, match="unknown executor"):
        study(url, executor="nothing").run(tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interrupted_run_has_copied_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, before, left = fresh(), fake._completion, [12]

    def interrupted(*args: Any) -> str:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return before(*args)

    monkeypatch.setattr(fake, "_completion", interrupted)
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
    before = fake._completion

    def looking(*args: Any) -> str:
        names = [name for name in MemoryFileSystem.store if url.removeprefix("memory:/") in name]
        seen.add(sum("/sample/" in name and name.endswith(".done") for name in names))
        return before(*args)

    monkeypatch.setattr(fake, "_completion", looking)
    study(url).run(tmp_path / "a")
    assert seen == {0, 1, 2}, "none, and one more after each unit but the last"


@pytest.mark.slow
def test_a_fetched_run_can_be_read_and_fetched_again(alone: Run, tmp_path: Path) -> None:
    url = fresh()
    with pytest.raises(UserError, match="has no mirror"):
        fetch(url, tmp_path / "c")
    Mirror(Store(tmp_path / "new"), url).open(create=True)
    with pytest.raises(UserError, match="no finished stage yet"):
        fetch(url, tmp_path / "c")
    study(url).run(tmp_path / "a", stages=["build", "train", "sample"])
    assert fetch(url, tmp_path / "c").progress()[-1]["done"] == 0
    with pytest.raises(UserError, match="rows that did not come from"):
        fetch(url, alone.path)
    study(url).run(tmp_path / "a")
    run = fetch(url, tmp_path / "c")
    assert run.ranking() == alone.ranking()
    assert run.report().exists()


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
def test_a_torn_archive_is_refused_and_copied_again_once_its_marker_is_deleted(alone: Run, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    study(str(place)).run(tmp_path / "a")
    for file in place.glob("rows/*/*.zip"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(MachineError, match=r"not match its marker\. Delete rows/build/\w+\.done there"):
        study(str(place)).run(tmp_path / "b")
    assert not rows(tmp_path / "b")
    for file in place.glob("rows/*/*.done"):
        file.unlink()
    study(str(place)).run(tmp_path / "b")
    study(str(place)).run(tmp_path / "a")
    assert rows(tmp_path / "a") == rows(tmp_path / "b") == rows(alone.path)
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
def test_a_place_that_takes_the_last_writer_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("nothing://bucket/x", "Protocol not known: nothing. Give a URL such as"),
        ("filecache::memory://x", "one file system inside another. Give a URL such as"),
        ("gs://bucket/x", "needs another package: Please install gcsfs"),
    ],
)
def test_a_url_that_cannot_be_a_mirror_is_refused_with_the_way_out(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises((UserError, MachineError), match=said) as refused:
        study(url).run(tmp_path / "a")
    assert "secret" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_place_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"contains other files, such as .thesis\.txt.*another URL"):
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
