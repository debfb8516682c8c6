"""How long a study takes on a cluster, simulated unit by unit, and how far that is from the shortest schedule possible.

    python benchmarks/cluster_simulation.py study.yaml --nodes 64 --gpus 8 --price 2
    python benchmarks/cluster_simulation.py study.yaml --nodes 64 --failures 1 --measured runs/pilot --json

List scheduling with the executor's own placement (execution/placement.py): a task runs when those it needs are done, on
any free worker; a worker that has not loaded the task's group loads it first. Machines may fail, at times drawn from an
exponential distribution: what ran there is lost and runs again elsewhere, and the machine returns with nothing loaded.
"stages in turn" starts a stage when the one before it has ended, as a study does.

    lower bound = max(total work / workers, the longest chain of tasks that need one another)

without loading and without failures: no schedule is shorter. Utilisation = total work / (workers x makespan).

Seconds of a unit: estimated, the minutes of one worker by `spillover plan`, shared equally by a stage's units of one
model; or measured, the mean over a finished run's shards of that stage and model, or of that stage where the run does
not have the model.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from spillover.errors import UserError
from spillover.execution.placement import TaskQueue
from spillover.planning.cost import EMBEDDED_PARAMETERS, count_parameters
from spillover.planning.gpus import Gpu, lookup_gpu
from spillover.provenance import cores, seed_for
from spillover.records.stages import WORK_STAGES
from spillover.study.run import Run
from spillover.study.study import Study

START_S = 10.0  # of a process with its libraries
READ_BYTES_S = 1e9  # weights, from a shared disk
ENDS, FAILS, RETURNS = range(3)  # events
Seconds = Mapping[tuple[str, str], float]
"""Of one unit, by stage and model; the model "" stands for all."""


@dataclass(frozen=True)
class Task:
    """`stage`: its place in the order; `needs`: indices of earlier tasks of the list; `seconds`: on one worker."""

    stage: int
    group: str
    seconds: float
    needs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Machines:
    """`failures_a_day`: expected per machine; a failed machine returns after `repair_s` seconds."""

    count: int
    workers_each: int
    failures_a_day: float = 0.0
    repair_s: float = 600.0


@dataclass(frozen=True)
class Schedule:
    """Worker seconds: on completed tasks, on loading, and lost with failed machines."""

    makespan: float
    work: float
    loading: float
    lost: float
    loads: int
    failures: int
    workers: int

    @property
    def utilisation(self) -> float:
        return self.work / (self.workers * self.makespan)


def lower_bound(tasks: Sequence[Task], workers: int) -> float:
    """Seconds that no schedule can beat."""
    ends: list[float] = []
    for task in tasks:
        ends.append(task.seconds + max((ends[need] for need in task.needs), default=0.0))
    return max(max(ends, default=0.0), sum(task.seconds for task in tasks) / workers)


def simulate(
    tasks: Sequence[Task], machines: Machines, load_s: Mapping[str, float], stages_in_turn: bool, seed: int
) -> Schedule:
    """Run the tasks in simulated time; the same seed gives the same failures."""
    return _Simulation(tasks, machines, load_s, stages_in_turn, seed).run()


class _Simulation:
    def __init__(
        self, tasks: Sequence[Task], machines: Machines, load_s: Mapping[str, float], stages_in_turn: bool, seed: int
    ) -> None:
        self.tasks, self.machines, self.load_s = tasks, machines, load_s
        workers = machines.count * machines.workers_each
        self.rng = np.random.default_rng(seed)
        self.now = 0.0
        self.free = list(range(workers))[::-1]
        self.loaded: list[str | None] = [None] * workers
        self.running: list[tuple[int, float] | None] = [None] * workers  # the task, and when the worker took it
        self.turn = [0] * workers  # raised when a worker is lost: events of an earlier turn are void
        self.events: list[tuple[float, int, int, int]] = []  # time, kind, worker or machine, turn
        self.queue: TaskQueue[int] = TaskQueue()
        self.missing = [len(task.needs) for task in tasks]
        self.followers: list[list[int]] = [[] for _ in tasks]
        for number, task in enumerate(tasks):
            for need in task.needs:
                self.followers[need].append(number)
        last = max((task.stage for task in tasks), default=0)
        self.left = [0] * (last + 1)
        for task in tasks:
            self.left[task.stage] += 1
        self.open = 0 if stages_in_turn else last  # stages up to this one may run
        self.held: list[list[int]] = [[] for _ in self.left]
        self.loading = self.lost = 0.0
        self.loads = self.failures = 0

    def run(self) -> Schedule:
        for number, missing in enumerate(self.missing):
            if not missing:
                self._release(number)
        self._open_stages()
        for machine in range(self.machines.count):
            self._plan_failure(machine)
        self._assign()
        while any(self.left):
            self.now, kind, who, turn = heapq.heappop(self.events)
            if kind == ENDS and turn == self.turn[who]:
                self._end(who)
            elif kind == FAILS:
                self._fail(who)
            elif kind == RETURNS:
                self.free += self._workers_of(who)
                self._plan_failure(who)
            self._assign()
        work = sum(task.seconds for task in self.tasks)
        return Schedule(self.now, work, self.loading, self.lost, self.loads, self.failures, len(self.loaded))

    def _release(self, number: int) -> None:
        task = self.tasks[number]
        if task.stage <= self.open:
            self.queue.add(task.group, number)
        else:
            self.held[task.stage].append(number)

    def _open_stages(self) -> None:
        while not self.left[self.open] and self.open + 1 < len(self.left):
            self.open += 1
            for number in self.held[self.open]:
                self._release(number)

    def _assign(self) -> None:
        while self.queue and self.free:
            worker = self.free.pop()
            before = self.loaded[worker]
            group, number = self.queue.take(before)
            load = 0.0 if group == before else self.load_s.get(group, 0.0)
            self.loads += group != before
            self.loaded[worker], self.running[worker] = group, (number, self.now)
            end = self.now + load + self.tasks[number].seconds
            heapq.heappush(self.events, (end, ENDS, worker, self.turn[worker]))

    def _end(self, worker: int) -> None:
        running = self.running[worker]
        assert running is not None
        number, since = running
        self.loading += self.now - since - self.tasks[number].seconds
        self.running[worker] = None
        self.free.append(worker)
        self.left[self.tasks[number].stage] -= 1
        for follower in self.followers[number]:
            self.missing[follower] -= 1
            if not self.missing[follower]:
                self._release(follower)
        self._open_stages()

    def _plan_failure(self, machine: int) -> None:
        if self.machines.failures_a_day:
            after = float(self.rng.exponential(86_400 / self.machines.failures_a_day))
            heapq.heappush(self.events, (self.now + after, FAILS, machine, 0))

    def _fail(self, machine: int) -> None:
        self.failures += 1
        for worker in self._workers_of(machine):
            running = self.running[worker]
            if running is None:
                self.free.remove(worker)
            else:
                self.queue.put_back(self.tasks[running[0]].group, running[0])
                self.lost += self.now - running[1]
            self.queue.release(self.loaded[worker])
            self.loaded[worker], self.running[worker] = None, None
            self.turn[worker] += 1
        heapq.heappush(self.events, (self.now + self.machines.repair_s, RETURNS, machine, 0))

    def _workers_of(self, machine: int) -> range:
        each = self.machines.workers_each
        return range(machine * each, (machine + 1) * each)


def estimate_seconds(study: Study, gpu: Gpu | None) -> Seconds:
    """Seconds of a unit by the cost estimate, on such a GPU or on this processor."""
    units: defaultdict[tuple[str, str], int] = defaultdict(int)
    for stage in WORK_STAGES:
        for unit in study.units[stage]:
            units[stage, unit.cell.model] += 1
    costs = study.plan_by_model(1, gpu)
    minutes = {(part.stage, model): part.minutes for model, parts in costs.items() for part in parts}
    return {place: 60 * minutes[place] / count for place, count in units.items()}


def measured_seconds(run: Run) -> Seconds:
    """Mean seconds of a unit in a run."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for stage, units in run.plan.items():
        for unit in units:
            if facts := run.store.facts(stage, unit.key):
                found[stage, unit.cell.model].append(facts["seconds"])
                found[stage, ""].append(facts["seconds"])
    return {place: fmean(values) for place, values in found.items()}


def study_tasks(study: Study, seconds: Seconds) -> list[Task]:
    """Every unit of the study, inputs first.

    Raises:
        UserError: for a stage of which the measured run has no finished unit.
    """
    made: dict[str, int] = {}
    found: list[Task] = []
    for number, stage in enumerate(WORK_STAGES):
        for unit in study.units[stage]:
            took = seconds.get((stage, unit.cell.model), seconds.get((stage, "")))
            if took is None:
                raise UserError(f"The measured run has no finished {stage}. Give one that has, or omit --measured.")
            needs = tuple(made[key] for key in unit.inputs)
            made[unit.key] = len(found)
            found.append(Task(number, study.loads(unit), took, needs))
    return found


def load_seconds(study: Study) -> dict[str, float]:
    """Seconds to load each group: the libraries, and two bytes a parameter."""
    sizes = {model.name: count_parameters(model) for model in study.config.models}
    sizes |= {"judge": EMBEDDED_PARAMETERS, "embedder": 0}
    return {name: START_S + 2 * size / READ_BYTES_S for name, size in sizes.items()}


def simulate_study(study: Study, machines: Machines, seconds: Seconds) -> dict[str, Any]:
    """Makespans with stages in turn and with each cell at its own pace, and the lower bound of both."""
    todo, load_s = study_tasks(study, seconds), load_seconds(study)
    workers = machines.count * machines.workers_each
    seed = seed_for(study.config.seed, "rehearsal")
    runs = {
        "stages in turn": simulate(todo, machines, load_s, True, seed),
        "each cell at its own pace": simulate(todo, machines, load_s, False, seed),
    }
    bound = lower_bound(todo, workers)
    work = sum(task.seconds for task in todo)
    return {
        "cells": study.population(),
        "tasks": len(todo),
        "machines": machines.count,
        "workers": workers,
        "seconds": {f"{stage} {model}".strip(): value for (stage, model), value in sorted(seconds.items())},
        "lower_bound": {"hours": bound / 3600, "worker_hours": work / 3600, "utilisation": work / workers / bound},
        "schedules": {name: _figures(schedule, bound) for name, schedule in runs.items()},
    }


def _figures(schedule: Schedule, bound: float) -> dict[str, float]:
    return {
        "hours": schedule.makespan / 3600,
        "over_bound": schedule.makespan / bound,
        "utilisation": schedule.utilisation,
        "worker_hours": schedule.workers * schedule.makespan / 3600,
        "loading_hours": schedule.loading / 3600,
        "lost_hours": schedule.lost / 3600,
        "loads": schedule.loads,
        "failures": schedule.failures,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the simulated schedules as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="study file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; repeatable"
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument(
        "--gpus", type=int, default=8, help="GPUs per machine; 0: one CPU worker per core of this machine"
    )
    parser.add_argument("--gpu", default="H100", help="GPU model (default: H100)")
    parser.add_argument("--failures", type=float, default=0.0, help="expected failures of one machine per day")
    parser.add_argument("--measured", type=Path, metavar="RUN", help="run folder with measured seconds")
    parser.add_argument("--price", type=float, help="dollars per worker hour")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    study, gpu = Study.load(options.study, options.set), lookup_gpu(options.gpu)
    share = study.config.cluster.gpus
    each = int(options.gpus / (1.0 if share == "auto" else share or 1.0)) if options.gpus else cores()
    run = options.measured
    seconds = measured_seconds(Run.open(run)) if run else estimate_seconds(study, gpu if options.gpus else None)
    found = simulate_study(study, Machines(options.nodes, each, options.failures), seconds)
    bound, schedules = found["lower_bound"], found["schedules"]
    if options.price is not None:
        for row in (bound, *schedules.values()):
            row["dollars"] = options.price * row["worker_hours"]
    if options.json:
        print(json.dumps(found, indent=2))
        return
    columns = {**schedules, "lower bound": bound}
    print(f"{study.config.name}: {found['cells']:,} models, {found['tasks']:,} units, {options.nodes} x {each} workers")
    print(" " * 22 + "".join(f"{name:>28}" for name in columns))
    for label, key, form in ROWS:
        if key in next(iter(columns.values())):
            print(f"{label:<22}" + "".join(f"{form.format(c[key]) if key in c else '':>28}" for c in columns.values()))
    source = run or (f"estimates for {gpu.name}" if options.gpus else "estimates for this machine")
    print(f"Seconds of a unit: {source}. A study runs its stages in turn.")


ROWS = (
    ("hours", "hours", "{:,.2f}"),
    ("hours / lower bound", "over_bound", "{:.3f}"),
    ("utilisation", "utilisation", "{:.1%}"),
    ("worker hours paid", "worker_hours", "{:,.0f}"),
    ("of them loading", "loading_hours", "{:,.1f}"),
    ("of them lost", "lost_hours", "{:,.1f}"),
    ("loads of a model", "loads", "{:,}"),
    ("failed machines", "failures", "{:,}"),
    ("dollars", "dollars", "{:,.0f}"),
)

if __name__ == "__main__":
    main()
