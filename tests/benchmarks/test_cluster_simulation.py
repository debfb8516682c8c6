"""Simulated schedules against closed forms, an exhaustive search, and bounds that no schedule can beat."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import yaml
from cluster_simulation import (
    START_S,
    Machines,
    Task,
    estimate_seconds,
    load_seconds,
    lower_bound,
    main,
    measured_seconds,
    simulate,
    study_tasks,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover import Study
from spillover.config.study import parse_study
from spillover.errors import UserError

FAKE = {"name": "m", "backend": "fake"}


def test_closed_forms() -> None:
    alike = [Task(0, "a", 10.0) for _ in range(12)]
    plain = simulate(alike, Machines(2, 2), {"a": 5.0}, False, 0)
    assert plain.makespan == 3 * 10 + 5
    assert (plain.loads, plain.loading, plain.utilisation) == (4, 20.0, pytest.approx(120 / (4 * 35)))
    chain = [Task(i, "a", 2.0, (i - 1,) if i else ()) for i in range(5)]
    assert simulate(chain, Machines(3, 1), {}, False, 0).makespan == lower_bound(chain, 3) == 10


def test_stages_in_turn_wait_for_the_slowest() -> None:
    todo = [Task(0, "a", 1.0), Task(0, "a", 5.0), Task(1, "a", 5.0, (0,)), Task(1, "a", 1.0, (1,))]
    assert simulate(todo, Machines(2, 1), {}, True, 0).makespan == 10
    assert simulate(todo, Machines(2, 1), {}, False, 0).makespan == 6


def test_workers_keep_what_they_have_loaded() -> None:
    todo = [Task(0, "ab"[i % 2], 1.0) for i in range(40)]
    found = simulate(todo, Machines(1, 2), {"a": 100.0, "b": 100.0}, False, 0)
    assert found.loads == 2
    assert found.makespan == 120


@st.composite
def some_tasks(draw: st.DrawFn) -> list[Task]:
    made: list[Task] = []
    for number in range(draw(st.integers(1, 12))):
        needs = tuple(draw(st.sets(st.integers(0, number - 1), max_size=2))) if number else ()
        stage = 1 + max((made[need].stage for need in needs), default=-1)
        made.append(Task(stage, draw(st.sampled_from("ab")), draw(st.integers(1, 9)), needs))
    return made


@given(some_tasks(), st.integers(1, 3), st.integers(1, 2), st.booleans(), st.sampled_from([0.0, 2000.0]))
@settings(max_examples=150, deadline=None)
def test_no_schedule_beats_the_bound_and_none_is_longer_than_one_worker_and_grahams_bound(
    todo: list[Task], count: int, each: int, in_turn: bool, failures: float
) -> None:
    machines = Machines(count, each, failures, repair_s=5.0)
    found = simulate(todo, machines, {"a": 1.0}, in_turn, 7)
    assert found == simulate(todo, machines, {"a": 1.0}, in_turn, 7), "the same seed, the same schedule"
    workers = count * each
    bound = lower_bound(todo, workers)
    assert found.makespan >= bound - 1e-9
    assert 0 < found.utilisation <= 1 + 1e-9
    if not failures:
        spent = found.work + found.loading
        assert spent == pytest.approx(sum(task.seconds for task in todo) + found.loading)
        assert found.makespan <= spent + 1e-9
        free = simulate(todo, machines, {}, False, 7)
        work, longest = sum(task.seconds for task in todo), lower_bound(todo, len(todo) * 1000)
        assert free.makespan <= work / workers + longest * (workers - 1) / workers + 1e-9  # Graham 1969


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_list_scheduling_is_within_graham_of_the_best_assignment(lengths: list[int]) -> None:
    todo = [Task(0, "a", float(length)) for length in lengths]
    best = min(
        max(sum(length for length, who in zip(lengths, chosen, strict=True) if who == worker) for worker in range(2))
        for chosen in itertools.product(range(2), repeat=len(lengths))
    )
    found = simulate(todo, Machines(1, 2), {}, False, 0)
    assert best <= found.makespan <= 1.5 * best
    assert lower_bound(todo, 2) <= best


def test_failures_cost_what_ran_and_the_load() -> None:
    todo = [Task(0, "a", 3600.0) for _ in range(200)]
    calm = simulate(todo, Machines(4, 2), {"a": 60.0}, False, 1)
    rough = simulate(todo, Machines(4, 2, failures_a_day=6, repair_s=60), {"a": 60.0}, False, 1)
    assert calm.lost == calm.failures == 0
    assert rough.failures > 5
    assert rough.makespan > calm.makespan
    assert rough.lost <= rough.failures * 2 * 3660
    assert rough.loads > calm.loads


def study(**changes: object) -> Study:
    return Study(parse_study({"name": "x", "models": [FAKE], "judge": {"name": "fake"}} | changes, "x"))


def test_a_study_becomes_its_units_with_the_minutes_of_its_plan() -> None:
    small = study(domains=["incorrect_math"], seeds=[0, 1])
    seconds = estimate_seconds(small, None)
    todo = study_tasks(small, seconds)
    assert len(todo) == sum(map(len, small.units.values()))
    minutes = sum(part.minutes for part in small.plan_by_model(1, None)["m"] if part.stage != "rank")
    assert sum(task.seconds for task in todo) == pytest.approx(60 * minutes)
    assert all(need < number for number, task in enumerate(todo) for need in task.needs)
    assert {task.group for task in todo} == {"m", "judge"}
    assert load_seconds(small)["m"] > START_S


@pytest.mark.slow
def test_measured_seconds_are_those_of_the_run(tmp_path: Path) -> None:
    small = study(
        domains=["incorrect_math"], variants=["plain"], data={"rows": 24, "answer_tokens": 40}, executor="inline"
    )
    run = small.run(tmp_path / "run", stages=["build", "train", "sample"])
    seconds = measured_seconds(run)
    facts = [run.store.facts("sample", unit.key)["seconds"] for unit in small.units["sample"]]
    assert seconds["sample", "m"] == seconds["sample", ""] == pytest.approx(sum(facts) / len(facts))
    with pytest.raises(UserError, match="no finished judge"):
        study_tasks(small, seconds)


def test_the_script_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "name": "some",
        "models": [{"name": f"m{i}", "path": "some/model-7B"} for i in range(2)],
        "seeds": list(range(3)),
        "judge": {"name": "fake"},
    }
    file = tmp_path / "some.yaml"
    file.write_text(yaml.safe_dump(content))
    command = [str(file), "--nodes", "4", "--gpus", "8", "--price", "2", "--set", "doses=[0.5, 1.0]"]
    main([*command, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["cells"] == 2 * (11 * 3 * 5 + 1)
    assert found["workers"] == 32
    for row in found["schedules"].values():
        assert 1 <= row["over_bound"] < 2
        assert row["dollars"] == pytest.approx(2 * 32 * row["hours"])
    main(command)
    shown = capsys.readouterr().out
    assert "332 models" in shown
    assert "estimates for H100" in shown
