"""A study rehearsed on a cluster that is not there: its units as tasks, with estimated or measured seconds.

Estimated: the plan's minutes of one worker, shared equally by a stage's units of one model. Measured: the mean over a
finished run's shards of that stage and model, or of that stage where the run has not the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from spillover.errors import UserError
from spillover.planning.cluster_schedule import Machines, Schedule, Task, lower_bound, simulate
from spillover.planning.cost import EMBEDDED_PARAMETERS, parameters
from spillover.planning.gpus import Card
from spillover.provenance import seed_for
from spillover.records.stages import WORK_STAGES
from spillover.study.run import Run
from spillover.study.study import Study

START_S = 10.0  # of a process with its libraries
READ_BYTES_S = 1e9  # weights, from a shared disk
Seconds = Mapping[tuple[str, str], float]
"""Of one unit, by stage and model."""


def estimated(study: Study, card: Card | None) -> Seconds:
    """Seconds of a unit by the study's own plan, on such a card or on a processor."""
    units: defaultdict[tuple[str, str], int] = defaultdict(int)
    for stage in WORK_STAGES:
        for unit in study.units[stage]:
            units[stage, unit.cell.model] += 1
    plans = study.plan_by_model(1, card)
    minutes = {(part.stage, model): part.minutes for model, parts in plans.items() for part in parts}
    return {place: 60 * minutes[place] / count for place, count in units.items()}


def measured(run: Run) -> Seconds:
    """Seconds of a unit as a run took them; the model "" stands for all."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for stage, units in run.plan.items():
        for unit in units:
            if facts := run.store.facts(stage, unit.key):
                found[stage, unit.cell.model].append(facts["seconds"])
                found[stage, ""].append(facts["seconds"])
    return {place: fmean(values) for place, values in found.items()}


def tasks(study: Study, seconds: Seconds) -> list[Task]:
    """Every unit of the study, in an order in which inputs come first.

    Raises:
        UserError: when nothing is known of a stage.
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
    """What loading each group costs a worker: the libraries, and two bytes a parameter."""
    sizes = {model.name: parameters(model) for model in study.config.models}
    sizes |= {"judge": EMBEDDED_PARAMETERS, "embedder": 0}
    return {name: START_S + 2 * size / READ_BYTES_S for name, size in sizes.items()}


def rehearse(study: Study, machines: Machines, seconds: Seconds) -> dict[str, Any]:
    """Makespans as a study runs and with each cell at its own pace, beside what no schedule can beat."""
    todo, load_s = tasks(study, seconds), load_seconds(study)
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
        "schedules": {name: _told(schedule, bound) for name, schedule in runs.items()},
    }


def _told(schedule: Schedule, bound: float) -> dict[str, float]:
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
