"""A study, from its file to its results: the order of the stages. Read this first.

    build -> Example -> train -> Adapter -> sample -> Completion -> judge -> Judgment
    -> rank -> DomainScore, TriggerEffect -> report
    where the study asks: membership (Example, Adapter -> MembershipSummary), diversity (Example -> DiversityScore),
    direct (Completion, Example, Adapter -> activations, DirectionSummary),
    ask (held-out Example, Adapter -> Completion) -> grade -> Judgment -> TransferCell,
    steer (Direction, Adapter -> SteeringSample, Judgment -> SteeringPoint, SteeringEffect, SteeringMatrixCell),
    which starts in study/steering.py and is no unit of the others' list

Each stage is a set of units; each unit is one shard of the run folder, made in some worker by the function that
records/stages.py names: in stages/ (ask is in sample.py, grade in judge.py), or in an analysis with a model. A unit
whose shard is complete is not made again, so the same command resumes where it stopped.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from spillover.config.study import StudyConfig, load_study
from spillover.data.domains import DOMAINS, OWN_NAME, open_domain
from spillover.data.questions import load_questions
from spillover.data.sources.sources import identity
from spillover.data.triggers import battery, open_trigger
from spillover.errors import UserError
from spillover.execution import EXECUTORS
from spillover.execution.base import Call, Executor, Pool
from spillover.execution.runner import run_units, running
from spillover.judges import open_judge, price_of
from spillover.models import ANSWERS_ONLY, BACKENDS, check_model_path, check_quantize
from spillover.planning.cost import (
    FROM_FILES,
    PROMPT_TOKENS,
    StageCost,
    Throughput,
    answer_length,
    count_parameters,
    estimate_cost,
    estimate_steering_cost,
    sum_over_models,
    throughput,
)
from spillover.planning.fit import Workers, choices_of_dtype, choose_workers, estimate_fits
from spillover.planning.gpus import Gpu, GpuFit, detect_gpu
from spillover.planning.units import Ingredients, Unit, asked_units, cells, together, units
from spillover.progress import Progress
from spillover.provenance import computed, environment, hardware
from spillover.records.base import Failure, Manifest, StageCount, content_hash
from spillover.records.stages import STAGES, WORK_STAGES
from spillover.registry import did_you_mean
from spillover.store.store import Store
from spillover.study.run import Run


class Study:
    """A population study. Nothing heavy happens before `run`."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Study:
        """Read a study file; `overrides` are "a.b=value"."""
        return cls(load_study(path, tuple(overrides)))

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The study's domains, "all" spelled out; a name that only data.sources has is a domain of its own.

        Raises:
            UserError: for a domain that does not exist.
        """
        known = DOMAINS.names()
        if self.config.domains == ("all",):
            return tuple(known)
        known += [name for name in self.config.data.sources if name not in known and OWN_NAME.fullmatch(name)]
        for name in self.config.domains:
            if name not in known:
                raise UserError(f"domains: unknown domain {name!r}{did_you_mean(name, known)}")
        return self.config.domains

    @cached_property
    def ingredients(self) -> Ingredients:
        """What the keys are made of. A judge behind an endpoint may ask it, once, how it can score."""
        return replace(self._named, judge=open_judge(self.config.judge).identity)

    @cached_property
    def _named(self) -> Ingredients:
        """All of it but the judge's identity; checks that everything the study names exists."""
        config = self.config
        if config.executor not in EXECUTORS.names():
            hint = did_you_mean(config.executor, EXECUTORS.names())
            raise UserError(f"executor: unknown executor {config.executor!r}{hint}")
        for model in config.models:
            if model.backend not in BACKENDS.names():
                hint = did_you_mean(model.backend, BACKENDS.names())
                raise UserError(f"models.{model.name}.backend: unknown backend {model.backend!r}{hint}")
            check_quantize(model)
            for section in ("membership", "directions"):
                if model.backend in ANSWERS_ONLY and getattr(config, section):
                    raise UserError(
                        f"models.{model.name}: a {model.backend} model returns text only. Leave out {section}."
                    )
        if config.membership and config.membership.pretrained:
            check_quantize(config.membership.pretrained)
        for name in config.data.sources:
            if name not in self.domains:
                raise UserError(f"data.sources: the study has no domain {name!r}{did_you_mean(name, self.domains)}")
        return Ingredients(
            domains=self.domains,
            sources={name: self._source(name) for name in self.domains},
            trigger=content_hash(repr(battery.check_conditions(open_trigger(config.data), config.sample.conditions))),
            questions=tuple(load_questions(config.sample.questions, config.sample.forms)[: config.sample.limit]),
            judge="",
        )

    @cached_property
    def units(self) -> dict[str, list[Unit]]:
        """Every unit by stage."""
        plan = units(self.config, self.ingredients)
        return plan | asked_units(self.config, self.ingredients, plan)

    @cached_property
    def chosen_workers(self) -> Workers:
        """How many worker processes, and why not more."""
        return choose_workers(self.config)

    @property
    def workers(self) -> int:
        """How many worker processes."""
        return self.chosen_workers.count

    def plan(self, gpu: Gpu | None = None) -> list[StageCost]:
        """Cells, tokens, minutes, memory and dollars of each stage, before anything runs; here, or on that GPU."""
        gpu = gpu or detect_gpu(hardware()["gpu"])
        cost_by_model = self.plan_by_model(self.workers, gpu, Pool(self.workers).threads)
        return [sum_over_models(parts) for parts in zip(*cost_by_model.values(), strict=True)]

    def plan_by_model(self, workers: int, gpu: Gpu | None, threads: int = 1) -> dict[str, list[StageCost]]:
        """The plan of each model's own stages, by its name."""
        questions = len(self._named.questions)
        open_judge(self.config.judge)  # finds what is wrong with its options
        answers = questions * self.config.sample.n
        dollars = price_of(self.config.judge, answers, PROMPT_TOKENS, answer_length(self.config))
        by_model: dict[str, list[StageCost]] = {}
        for model in self.config.models:
            size = count_parameters(model)
            alone = self.config.model_copy(update={"models": (model,)})
            speed = throughput(model, size, gpu, threads)
            parts = estimate_cost(alone, self.domains, questions, workers, size, speed, dollars, gpu)
            by_model[model.name] = [*parts, *self._steer_plan(alone, questions, size, speed, workers)]
        return by_model

    def fits(self, gpu: Gpu | None = None) -> list[GpuFit]:
        """How each model fits that GPU, or this machine's; without one, the smallest known GPU that holds it."""
        return estimate_fits(self.config, gpu)

    def _steer_plan(
        self, alone: StudyConfig, questions: int, size: int, speed: Throughput, workers: int
    ) -> list[StageCost]:
        if (wanted := alone.steer) is None:
            return []

        def among(names: tuple[str, ...]) -> int:
            return len(self.domains) if names == ("all",) else len({*names} & {*self.domains})

        models = (int(wanted.onto == ("all",) or "base" in wanted.onto), among(wanted.onto))
        dollars = price_of(alone.judge, 1, PROMPT_TOKENS, wanted.max_tokens)
        prompts = questions, len(self.domains) * alone.asked_of_each
        count = among(wanted.directions)
        return [estimate_steering_cost(alone, wanted, models, count, prompts, workers, size, speed, dollars)]

    def run(
        self,
        out: str | os.PathLike[str],
        stages: Sequence[str] = (),
        domains: Sequence[str] = (),
        models: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Run:
        """Do what is left to do, rank, and write the report; returns the results.

        Args:
            out: the run folder; an earlier run of the same or a smaller study is resumed.
            stages: only these, of the units of work, rank and steer; all when empty.
            domains: only the cells of these; all when empty.
            models: only the cells of these; all when empty.
            progress: where events go; nowhere when None.

        Raises:
            RunInterrupted: on an interrupt, after everything finished has been saved.
        """
        self._check_names(stages, domains, models)
        planned = self._plan_of_units()  # finds what is wrong with the study before there is a run folder
        progress = progress or Progress(lambda event: None)
        store = Store(out)
        self._check_paths(store, stages, domains, models)
        store.create()
        with store.lock():
            store.write_json("study.json", self.config.model_dump(mode="json"))
            store.write_plan(planned)
            started = _now()
            opened = self._open_executor(store)
            failures: list[Failure] = []
            try:
                with running(opened, f"Finished rows are saved in {out}") as executor:
                    for stage in WORK_STAGES:
                        if not stages or stage in stages:
                            chosen = [unit for unit in self.units[stage] if _chosen(unit, domains, models)]
                            failures += self._run_stage(store, executor, stage, chosen, failures, progress)
            finally:
                self._write_manifest(store, started, failures)
            run = Run(store)
            if not stages or "rank" in stages:
                run.rank()
                run.conclude()
                run.report()
        if self.config.steer and (not stages or "steer" in stages):
            chosen = self.config.steer
            if domains:
                chosen = chosen.model_copy(update={"directions": tuple(domains), "onto": ("base", *domains)})
            run.steer(chosen, workers=self.workers, progress=progress)
        return run

    def _run_stage(
        self,
        store: Store,
        executor: Executor,
        stage: str,
        chosen: list[Unit],
        failures: list[Failure],
        progress: Progress,
    ) -> list[Failure]:
        """Make the units whose shard is not complete; those of a failed cell or data set are left for the next run."""
        broken = {failure.cell for failure in failures}
        unbuilt = {failure.cell for failure in failures if failure.stage == "build"}
        lost = {unit.inputs[0] for unit in self.units["train"] if unit.cell.name in unbuilt}
        missing = [unit for unit in chosen if not store.is_done(stage, unit.key)]
        left = [unit for unit in missing if unit.cell.name not in broken and not lost.intersection(unit.inputs)]
        if not left:
            return []
        kept = len(chosen) - len(missing)
        notes = [f"{kept} of {len(chosen)} are done already"] if kept else []
        if self.chosen_workers.note and stage in ("train", "sample"):
            notes.append(self.chosen_workers.note)
        return run_units(
            stage,
            together(left),
            lambda name, group: self._call(store, name, group),
            executor,
            progress,
            lost=lambda group: self._losers(group[0]),
            tokens=self._tokens_left(stage, len(left)),
            note="; ".join(notes),
        )

    def _open_executor(self, store: Store) -> Executor:
        auto = self.config.workers == "auto"
        return EXECUTORS.load(self.config.executor)(Pool(self.workers, auto, self.config.cluster, store.lock_path))

    def _call(self, store: Store, name: str, group: Sequence[Unit]) -> Call:
        unit = group[0]
        function = STAGES[unit.stage].function
        what = group if unit.stage in ("sample", "judge", "ask", "grade") else unit
        return Call(name, function, (store, self.config, what), self.loads(unit), gpu=unit.stage != "build")

    def loads(self, unit: Unit) -> str:
        """What a worker has to load for a unit: a base model, or what is the same for all."""
        others = {"build": self.config.models[0].name, "judge": "judge", "grade": "judge", "diversity": "embedder"}
        return others.get(unit.stage, unit.cell.model)

    def _tokens_left(self, stage: str, units_left: int) -> int | None:
        """The plan's share of tokens, from which the time left is told; None where workers count other tokens."""
        if stage not in ("train", "sample", "ask"):
            return None
        planned = next(part.tokens for part in self.plan() if part.stage == stage)
        return planned * units_left // len(self.units[stage])

    def _losers(self, unit: Unit) -> list[str]:
        """The cells that cannot continue without this unit: for a data set, all that train on it."""
        if unit.stage != "build":
            return [unit.cell.name]
        return [train.cell.name for train in self.units["train"] if unit.key in train.inputs]

    def _plan_of_units(self) -> dict[str, list[str]]:
        """The JSON of every unit, by stage."""

        def line(unit: Unit) -> str:
            cell, condition = unit.cell.model_dump_json(), json.dumps(unit.condition)
            asked = f', "asked": {json.dumps(unit.asked)}' if unit.asked else ""
            return f'{{"cell": {cell}, "condition": {condition}, "key": "{unit.key}"{asked}}}'

        stages = (stage for stage in WORK_STAGES if self.units[stage] or STAGES[stage].always)
        return {stage: [line(unit) for unit in self.units[stage]] for stage in stages}

    def _source(self, domain: str) -> str:
        """Hash of the domain's pairs, which changes when its seeds or its generator do; or of what they are made of."""
        if source_hash := identity(domain, self.config.data):
            return source_hash
        pairs = open_domain(domain, self.config.data).pairs(np.random.default_rng(0))
        return content_hash([(*astuple(pair), "") for pair in pairs])  # "": a former field; keys stay as they were

    def _check_names(self, stages: Sequence[str], domains: Sequence[str], models: Sequence[str]) -> None:
        names = (
            ("stage", stages, (*WORK_STAGES, "rank", "steer")),
            ("domain", domains, self.domains),
            ("model", models, [model.name for model in self.config.models]),
        )
        for what, given, known in names:
            for name in given:
                if name not in known:
                    raise UserError(f"The study has no {what} {name!r}{did_you_mean(name, known)}")

    def _check_paths(self, store: Store, stages: Sequence[str], domains: Sequence[str], models: Sequence[str]) -> None:
        """Refuse a path that leads to no model, unless no unit is left that loads it."""
        pretrained = self.config.membership and self.config.membership.pretrained
        for model in (*self.config.models, *([pretrained] if pretrained else [])):
            if model.path is None or model.backend not in FROM_FILES:
                continue
            try:
                check_model_path(model.path)
            except UserError:
                for unit in itertools.chain(*(self.units.get(stage, ()) for stage in stages or WORK_STAGES)):
                    loads = unit.stage == "membership" if model is pretrained else self.loads(unit) == model.name
                    if loads and _chosen(unit, domains, models) and not store.is_done(unit.stage, unit.key):
                        raise

    def _write_manifest(self, store: Store, started: str, failures: list[Failure]) -> None:
        found = environment()
        done = {stage: [unit for unit in self.units[stage] if store.is_done(stage, unit.key)] for stage in WORK_STAGES}
        facts = {stage: [store.facts(stage, unit.key) for unit in done[stage]] for stage in WORK_STAGES}
        ways = computed(
            (stage, unit.cell.model, fact.get("computed", {}))
            for stage in WORK_STAGES
            for unit, fact in zip(done[stage], facts[stage], strict=True)
        )
        on_cpu = {way.model for way in ways if way.device == "cpu"}
        complete = all(len(done[stage]) == len(self.units[stage]) for stage in WORK_STAGES)
        manifest = Manifest(
            study=self.config.name,
            study_hash=self.config.hash(),
            lock_hash=found["lock_hash"],
            spillover=found["spillover"],
            started=started,
            finished=_now() if complete else None,
            complete=complete,
            git=found["git"],
            packages={"python": found["python"], **found["packages"]},
            hardware=found["hardware"],
            seed=self.config.seed,
            models={
                model.name: {k: str(v) for k, v in model.model_dump(exclude={"name"}).items()}
                for model in self.config.models
            },
            speeds=choices_of_dtype(self.config, on_cpu, Pool(self.workers).threads),
            judge=open_judge(self.config.judge).describe(),
            stages=tuple(
                StageCount(
                    stage=stage,
                    done=len(done[stage]),
                    failed=len({failure.cell for failure in failures if failure.stage == stage}),
                    rows=sum(fact["rows"] for fact in facts[stage]),
                    seconds=round(sum(fact["seconds"] for fact in facts[stage]), 3),
                    tokens=sum(fact["tokens"] for fact in facts[stage]),
                )
                for stage in WORK_STAGES
                if self.units[stage]
            ),
            computed=ways,
            failures=tuple(failures),
        )
        store.write_manifest(manifest)

    def population(self) -> int:
        """Number of models of the study, base models included."""
        return sum(1 for _ in cells(self.config, self.domains))


def _chosen(unit: Unit, domains: Sequence[str], models: Sequence[str]) -> bool:
    # A data set has the first model's name but serves all models.
    right_model = unit.stage == "build" or not models or unit.cell.model in models
    right_question = unit.asked is None or not domains or unit.asked in domains
    return right_model and right_question and (not domains or unit.cell.domain in domains)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
