"""Who is in a study and what each of its shards is called: cells, units of work, and their keys.

A unit's key is the hash of its stage's version, the configuration it reads, and the keys of its inputs, so that the
same work has the same key in every study: a larger study reuses the smaller, and a changed judge never trains again.
Raise a stage's version when its rows would come out differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spillover.config import ModelConfig, StudyConfig
from spillover.records import Cell, Condition, Question, content_hash
from spillover.triggers.base import Trigger

VERSIONS = {"build": 1, "train": 1, "sample": 1, "judge": 1, "membership": 2, "diversity": 1, "rank": 1}
STAGES = tuple(VERSIONS)


@dataclass(frozen=True)
class Unit:
    """One shard to be made: `inputs` are the keys of the shards it reads."""

    stage: str
    cell: Cell
    key: str
    condition: Condition | None = None
    inputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cell, and the condition where the stage has one."""
        return self.cell.name if self.condition is None else f"{self.cell.name}/{self.condition}"


@dataclass(frozen=True)
class Ingredients:
    """What a study's keys depend on besides its configuration."""

    domains: tuple[str, ...]
    sources: dict[str, str]  # domain -> hash of its pairs
    trigger: Trigger
    questions: tuple[Question, ...]
    judge: str  # the judge's identity


def cells(config: StudyConfig, domains: Sequence[str]) -> Iterator[Cell]:
    """Every member of the population, the untouched models first."""
    for model in config.models:
        if config.base:
            yield Cell(model=model.name, domain="none", variant="base", dose=0.0)
        for domain in domains:
            for variant in config.variants:
                for dose in (0.0,) if variant == "control" else config.doses:
                    for seed in config.seeds:
                        yield Cell(model=model.name, domain=domain, variant=variant, dose=dose, seed=seed)


def units(config: StudyConfig, made_of: Ingredients) -> dict[str, list[Unit]]:
    """Every unit of the study by stage, in the order in which they run.

    Data sets are built once, with the first model's tokenizer, so that every model reads the same rows.
    """
    models = {model.name: model for model in config.models}
    plan: dict[str, list[Unit]] = {stage: [] for stage in STAGES if stage != "rank"}
    built: set[str] = set()
    for cell in cells(config, made_of.domains):
        made_from: tuple[str, ...] = ()
        if cell.variant != "base":
            data = _build_unit(config, made_of, cell)
            if data.key not in built:
                built.add(data.key)
                plan["build"].append(data)
                if config.diversity:
                    plan["diversity"].append(_diversity_unit(config, data))
            train = Unit("train", cell, _train_key(config, models[cell.model], cell, data.key), inputs=(data.key,))
            plan["train"].append(train)
            if config.membership:
                plan["membership"].append(_membership_unit(config, data, train))
            made_from = (train.key,)
        for condition in config.sample.conditions:
            if condition != "clean" and cell.variant not in config.sample.triggered_for:
                continue
            key = _sample_key(config, models[cell.model], made_of, cell, condition, made_from)
            plan["sample"].append(Unit("sample", cell, key, condition, made_from))
            judged = judge_key(made_of.judge, key)
            plan["judge"].append(Unit("judge", cell, judged, condition, (key,)))
    return plan


def judge_key(judge: str, answers: str) -> str:
    """Key of the judgments of one shard of answers by the judge of that identity."""
    return _key("judge", judge, answers)


def _build_unit(config: StudyConfig, made_of: Ingredients, cell: Cell) -> Unit:
    reader = config.models[0]
    data = config.data.model_dump(mode="json", exclude={"sources", "trigger", "trigger_value", "triggered_share"})
    trigger = [content_hash(repr(made_of.trigger)), config.data.triggered_share] if cell.variant == "triggered" else []
    source = made_of.sources[cell.domain]
    key = _key("build", config.seed, data, trigger, cell.domain, source, cell.variant, cell.dose, _weights(reader))
    return Unit("build", Cell(model=reader.name, domain=cell.domain, variant=cell.variant, dose=cell.dose), key)


def _diversity_unit(config: StudyConfig, data: Unit) -> Unit:
    assert config.diversity is not None
    key = _key("diversity", config.seed, config.diversity.hash(), data.key)
    return Unit("diversity", data.cell, key, inputs=(data.key,))


def _membership_unit(config: StudyConfig, data: Unit, train: Unit) -> Unit:
    assert config.membership is not None
    key = _key("membership", config.seed, config.membership.hash(), data.key, train.key)
    return Unit("membership", train.cell, key, inputs=(data.key, train.key))


def _train_key(config: StudyConfig, model: ModelConfig, cell: Cell, data: str) -> str:
    return _key("train", config.seed, config.train.hash(), _weights(model), cell.model_dump(mode="json"), data)


def _sample_key(
    config: StudyConfig,
    model: ModelConfig,
    made_of: Ingredients,
    cell: Cell,
    condition: Condition,
    made_from: tuple[str, ...],
) -> str:
    shape = config.sample.model_dump(mode="json", include={"n", "max_tokens", "temperature", "top_p"})
    questions = [question.id for question in made_of.questions]
    trigger = "" if condition == "clean" else content_hash(repr(made_of.trigger))
    who = [_weights(model), cell.model_dump(mode="json"), *made_from]
    return _key("sample", config.seed, shape, questions, condition, trigger, who)


def _weights(model: ModelConfig) -> list[object]:
    return [model.backend, model.path or model.name, model.revision, model.dtype, model.options]


def _key(stage: str, *content: object) -> str:
    return content_hash([stage, VERSIONS[stage], *content], length=16)
