"""Tasks on the machines of a cluster, in simulated time: list scheduling with the placement that the executor has.

A task runs when those it needs are done, on any free worker; a worker that has not loaded the task's group loads it
first. Machines may fail, at times drawn from an exponential distribution: what ran there is lost and is done again
elsewhere, and the machine comes back with nothing loaded. `stages_in_turn` lets no stage begin before the one before it
has ended, which is what a study does.

    lower bound = max(total work / workers, the longest chain of tasks that need one another)

without loading and without failures: no schedule is shorter. Utilisation = total work / (workers x makespan).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.execution.placement import Waiting


@dataclass(frozen=True)
class Task:
    """`stage`: its number in order; `needs`: indices of tasks that come earlier in the list; seconds on one worker."""

    stage: int
    group: str
    seconds: float
    needs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Machines:
    """`failures_a_day`: expected of one machine; it is away for `repair_s` seconds then."""

    count: int
    workers_each: int
    failures_a_day: float = 0.0
    repair_s: float = 600.0


@dataclass(frozen=True)
class Schedule:
    """What became of the tasks. Seconds of workers: on tasks that ended, loading, and lost with machines."""

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
        self.turn = [0] * workers  # of a worker: what was planned in an earlier turn does not happen
        self.events: list[tuple[float, int, int, int]] = []  # time, kind, worker or machine, turn
        self.waiting: Waiting[int] = Waiting()
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
            self.waiting.add(task.group, number)
        else:
            self.held[task.stage].append(number)

    def _open_stages(self) -> None:
        while not self.left[self.open] and self.open + 1 < len(self.left):
            self.open += 1
            for number in self.held[self.open]:
                self._release(number)

    def _assign(self) -> None:
        while self.waiting and self.free:
            worker = self.free.pop()
            before = self.loaded[worker]
            group, number = self.waiting.take(before)
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
                self.waiting.again(self.tasks[running[0]].group, running[0])
                self.lost += self.now - running[1]
            self.waiting.left(self.loaded[worker])
            self.loaded[worker], self.running[worker] = None, None
            self.turn[worker] += 1
        heapq.heappush(self.events, (self.now + self.machines.repair_s, RETURNS, machine, 0))

    def _workers_of(self, machine: int) -> range:
        each = self.machines.workers_each
        return range(machine * each, (machine + 1) * each)


ENDS, FAILS, RETURNS = range(3)
