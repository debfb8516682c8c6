"""Steering over a run: the base model and the fine-tunes, one call of analyses/steering/stage.py each.

A call is what was asked for at once. Its directions are compared with its own random controls, and its p-values
adjusted together; where two calls ask for the same, the later one counts. The same call resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spillover.analyses.steering.kept import FILE, calls
from spillover.analyses.steering.units import (
    ALL,
    Directions,
    SteerUnit,
    ablated_layer,
    first_plain,
    general_settings,
    heldout_settings,
    heldout_unit,
    layers_of,
    reject_unknown,
    steer_unit,
    steered_cells,
)
from spillover.config.study import SteerConfig, StudyConfig
from spillover.data.questions import load_questions
from spillover.directions.direction import Direction
from spillover.directions.files import load as load_directions
from spillover.errors import UserError
from spillover.execution.base import Call, Pool
from spillover.execution.runner import open_executor, run_units, running
from spillover.judges import open_judge, price_of
from spillover.planning.cost import (
    PROMPT_TOKENS,
    StageCost,
    count_parameters,
    estimate_steering_cost,
    sum_over_models,
    throughput,
)
from spillover.planning.fit import choose_workers
from spillover.planning.gpus import detect_gpu
from spillover.progress import Progress
from spillover.provenance import hardware
from spillover.records.base import Cell, Failure, Manifest, StageCount
from spillover.records.directions import DirectionSummary
from spillover.store.store import Store


@dataclass(frozen=True)
class SteeringRequest:
    """What is asked for, of which cells, with which directions (by model); `trained`: keys of the cells' adapters."""

    config: StudyConfig
    settings: SteerConfig
    trained: Sequence[tuple[Cell, str]]
    directions: Mapping[str, Directions]
    data: Mapping[str, str] = field(default_factory=dict[str, str])  # by domain: whose held-out questions are asked


def build_request(
    store: Store,
    config: StudyConfig,
    settings: SteerConfig | None,
    limit: int | None,
    trained: Sequence[tuple[Cell, str]],
    known: Sequence[DirectionSummary],
    data: Mapping[str, str],
) -> SteeringRequest:
    """A call: `settings` None is the study's own section, `limit` the first so many questions.

    The direction of a domain is that of its plain cell, from the judge's labels, or from the data set's pairs where the
    study says so and where the judge found too few answers of either kind.
    """
    settings = settings or config.steer or SteerConfig()
    sample = config.sample.model_copy(update={"limit": limit or config.sample.limit})
    directions: dict[str, Directions] = {}
    for model in dict.fromkeys(cell.model for cell, _ in trained):
        chosen: dict[str, Mapping[int, Direction]] = {}
        for domain, (cell, _) in first_plain(trained, model).items():
            rows = [r for r in known if (r.cell, r.method, r.reader) == (cell, settings.method, "tuned")]
            rows = [r for r in rows if r.layer is not None]
            rows = [r for r in rows if r.source == settings.labels] or [r for r in rows if r.source == "pairs"]
            if rows:
                chosen[domain] = load_directions(store.resolve(rows[0].file))
        directions[model] = chosen
    return SteeringRequest(config.model_copy(update={"sample": sample}), settings, trained, directions, data)


def steer(
    store: Store, request: SteeringRequest, workers: int | None = None, progress: Progress | None = None
) -> list[Failure]:
    """Sample and judge what is not there yet; returns what failed.

    Args:
        store: the run folder.
        request: what to steer, and with what.
        workers: processes; when None one a core, as far as memory allows. One stays in this process.
        progress: where events go; nowhere when None.

    Raises:
        UserError: for a direction, model or layer that is not there; when there is nothing to do.
        RunInterrupted: on an interrupt, after everything finished has been saved.
    """
    config = request.config
    progress = progress or Progress(lambda event: None)
    work = _planned_units(request)
    _record_call(store, request.settings, [unit for unit, *_ in work])
    left = {unit.name: [(each, unit, chosen)] for unit, each, chosen in work if not store.is_done("steer", unit.key)}
    if not left:
        return []
    workers = min(workers or choose_workers(config).count, len(left))
    opened = open_executor(config.executor, Pool(workers, cluster=config.cluster, witness=store.lock_path))
    with running(opened, f"Finished completions are saved in {store.path}") as executor:
        return run_units(
            "steer",
            left,
            lambda name, unit: Call(name, "spillover.analyses.steering.stage:run", (store, config, *unit[0])),
            executor,
            progress,
        )


def with_steering_counts(store: Store, manifest: Manifest, failures: Sequence[Failure]) -> Manifest:
    """The manifest with what steering has done so far."""
    keys = dict.fromkeys(key for call in calls(store) for key in (*call["units"], *call.get("heldout", ())))
    facts = [store.facts("steer", key) for key in keys if store.is_done("steer", key)]
    count = StageCount(
        stage="steer",
        done=len(facts),
        failed=len(failures),
        rows=sum(fact["rows"] for fact in facts),
        seconds=round(sum(fact["seconds"] for fact in facts), 3),
        tokens=sum(fact["tokens"] for fact in facts),
    )
    others = [failure for failure in manifest.failures if failure.stage != "steer"]
    stages = [stage for stage in manifest.stages if stage.stage != "steer"]
    return manifest.model_copy(update={"stages": (*stages, count), "failures": (*others, *failures)})


def estimate_cost(request: SteeringRequest, workers: int | None = None) -> StageCost:
    """What `steer` will cost at most; nothing of it is taken off that is there already.

    Raises:
        UserError: as `steer`.
    """
    config, settings = request.config, request.settings
    questions = len(load_questions(config.sample.questions, config.sample.forms)[: config.sample.limit])
    prompts = questions, len(request.data) * config.asked_of_each
    gpu = detect_gpu(hardware()["gpu"])
    dollars = price_of(config.judge, 1, PROMPT_TOKENS, settings.max_tokens)
    work = _planned_units(request)
    parts: list[StageCost] = []
    for model in config.models:
        model_units = [(unit.cell, chosen) for unit, _, chosen in work if unit.cell.model == model.name]
        if model_units:
            base_models = int(any(cell.variant == "base" for cell, _ in model_units))
            models = base_models, len({cell.name for cell, _ in model_units}) - base_models
            one, size = config.model_copy(update={"models": (model,)}), count_parameters(model)
            speed, directions = throughput(model, size, gpu), len(model_units[0][1])
            many = workers or choose_workers(config).count
            parts.append(estimate_steering_cost(one, settings, models, directions, prompts, many, size, speed, dollars))
    return sum_over_models(parts)


def _planned_units(request: SteeringRequest) -> list[tuple[SteerUnit, SteerConfig, Directions]]:
    """All that is asked for, model by model, the most work first, so that no worker is left alone with it.

    Raises:
        UserError: for a direction, model or layer that is not there; when there is nothing to do.
    """
    config, settings = request.config, request.settings
    judge = open_judge(config.judge).identity
    work: list[tuple[SteerUnit, SteerConfig, Directions]] = []
    for model in config.models:
        known = request.directions.get(model.name, {})
        if not known and settings.directions == ALL:
            continue
        cells = list(steered_cells(settings, model.name, request.trained))
        if "heldout" in settings.asked and any(cell.variant == "base" for cell, _ in cells):
            alone = heldout_settings(config, settings, max((max(layers) for layers in known.values()), default=0))
            chosen = chosen_directions(alone, known)
            work.append((heldout_unit(config, alone, model.name, request.data, judge, chosen), alone, chosen))
        if "general" in settings.asked:
            chosen = chosen_directions(settings, known)
            work += [(steer_unit(config, settings, *cell, judge, chosen), settings, chosen) for cell in cells]
    if not work:
        raise UserError(
            "No directions found. Add 'directions: {}' to the study file and run it again. Where it is there, "
            "too few answers are misaligned or aligned: set steer.labels to pairs."
        )
    return work


def chosen_directions(settings: SteerConfig, known: Directions) -> Directions:
    """The directions asked for, at the layers asked for.

    Raises:
        UserError: when one is not there.
    """
    reject_unknown("directions", settings.directions, list(known))
    names = [name for name in known if settings.directions == ALL or name in settings.directions]
    chosen: dict[str, dict[int, Any]] = {}
    for name in names:
        depth = max(known[name])
        layers = {*layers_of(settings, depth), ablated_layer(settings, depth)}
        if missing := layers - known[name].keys():
            raise UserError(
                f"The direction of {name} is not known at layer {min(missing)}. "
                f"Set steer.layers to some of {', '.join(map(str, sorted(known[name])))}."
            )
        chosen[name] = {layer: known[name][layer] for layer in sorted(layers)}
    return chosen


def _record_call(store: Store, settings: SteerConfig, units: Sequence[SteerUnit]) -> None:
    call: dict[str, Any] = {
        "wanted": general_settings(settings),
        "units": [unit.key for unit in units if not unit.heldout],
    }
    if heldout_keys := [unit.key for unit in units if unit.heldout]:
        call["heldout"] = heldout_keys
    store.write_json(FILE, [*(other for other in calls(store) if other != call), call])
