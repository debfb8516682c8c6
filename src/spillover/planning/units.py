"""Who is in a study and what each of its shards is called: cells, units of work, and their keys.

A unit's key is the hash of its stage's version, the configuration it reads, and the keys of its inputs, so that the
same work has the same key in every study: a larger study reuses the smaller, and a changed judge never trains again.
Raise a stage's version when its rows would come out differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spillover.config.study import ModelConfig, StudyConfig
from spillover.models import READS_AND_TRAINS_BY
from spillover.records.base import Cell, Condition, Question, canonical, content_hash, text_hash
from spillover.records.stages import RANK_VERSION, STAGES, WORK_STAGES

ASK_VERSION = 1  # of held-out questions
PREFERRED = ("plain", "control", "triggered")  # whose data set questions are read from; they are the same in all


@dataclass(frozen=True)
class Unit:
    """One shard to be made: `inputs` are the keys of the shards it reads."""

    stage: str
    cell: Cell
    key: str
    condition: Condition | None = None
    inputs: tuple[str, ...] = ()
    asked: str | None = None  # the domain whose held-out questions are asked

    @property
    def name(self) -> str:
        """The cell, and the condition where the stage has one."""
        return self.cell.name if self.condition is None else f"{self.cell.name}/{self.condition}"


@dataclass(frozen=True)
class Ingredients:
    """What a study's keys depend on besides its configuration."""

    domains: tuple[str, ...]
    sources: dict[str, str]  # domain -> hash of its pairs
    trigger: str  # hash of the trigger and its templates
    questions: tuple[Question, ...]
    judge: str  # the judge's identity


def cells(config: StudyConfig, domains: Sequence[str]) -> Iterator[Cell]:
    """Every member of the population, the base models first."""
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
    keys = _Keys(config, made_of)
    plan: dict[str, list[Unit]] = {stage: [] for stage in WORK_STAGES if stage not in ("ask", "grade")}
    built: dict[tuple[str, str, float], Unit] = {}
    for cell in cells(config, made_of.domains):
        made_from: tuple[str, ...] = ()
        who = canonical(cell.model_dump(mode="json"))
        if cell.variant != "base":
            recipe = (cell.domain, cell.variant, cell.dose)
            if recipe not in built:
                made = built[recipe] = keys.build_unit(cell)
                plan["build"].append(made)
                if config.diversity:
                    key = _key("diversity", keys.seed, keys.diversity, _text(made.key))
                    plan["diversity"].append(Unit("diversity", made.cell, key, inputs=(made.key,)))
            data = built[recipe].key
            trained = _key("train", keys.seed, keys.train, keys.trained[cell.model], who, _text(data))
            plan["train"].append(Unit("train", cell, trained, inputs=(data,)))
            if config.membership:
                key = _key("membership", keys.seed, keys.membership, _text(data), _text(trained))
                plan["membership"].append(Unit("membership", cell, key, inputs=(data, trained)))
            made_from = (trained,)
        for condition in config.sample.conditions:
            if condition != "clean" and cell.variant not in config.sample.triggered_for:
                continue
            asked = keys.asked[condition]
            key = _key("sample", keys.seed, asked, _list(keys.weights[cell.model], who, *map(_text, made_from)))
            plan["sample"].append(Unit("sample", cell, key, condition, made_from))
            plan["judge"].append(Unit("judge", cell, judge_key(made_of.judge, key), condition, (key,)))
            if config.directions and condition == "clean" and cell.variant in config.directions.variants:
                inputs = (built[cell.domain, cell.variant, cell.dose].key, *made_from, key)
                found = _key("direct", keys.directions, *map(_text, inputs))
                plan["direct"].append(Unit("direct", cell, found, inputs=inputs))
    return plan


def asked_units(config: StudyConfig, made_of: Ingredients, plan: dict[str, list[Unit]]) -> dict[str, list[Unit]]:
    """Every cell, under each condition, asked the held-out questions of every domain, and the judgments of that.

    One unit an asked domain, so that a study with one more domain asks for that domain only. None where the study does
    not ask for it; `plan`: the units of the stages before.
    """
    found: dict[str, list[Unit]] = {"ask": [], "grade": []}
    wanted = config.transfer
    if wanted is None:
        return found
    shape = config.sample.model_dump(mode="json", include={"temperature", "top_p"})
    limits = [config.asked_of_each, wanted.n, wanted.max_tokens or config.sample.max_tokens]
    trigger = made_of.trigger
    models = {model.name: weights(model) for model in config.models}
    data = asked_data([(unit.cell, unit.key) for unit in plan["build"]])
    for unit in plan["sample"]:
        cell, condition = unit.cell, unit.condition
        if cell.variant not in wanted.variants or condition not in wanted.conditions:
            continue
        carried = "" if condition == "clean" else trigger
        own = () if cell.variant == "base" else (data[cell.domain],)
        who = [models[cell.model], cell.model_dump(mode="json"), *own, *unit.inputs]
        for domain in made_of.domains:
            content = ["ask", ASK_VERSION, config.seed, shape, limits, condition, carried, domain, data[domain], who]
            key = content_hash(content, length=16)
            inputs = (data[domain], *own, *unit.inputs)
            found["ask"].append(Unit("ask", cell, key, condition, inputs, domain))
            found["grade"].append(
                Unit("grade", cell, judge_key(made_of.judge, key), condition, (key, data[domain]), domain)
            )
    return found


def asked_data(built: Sequence[tuple[Cell, str]]) -> dict[str, str]:
    """By domain the key of the data set whose held-out questions are asked: the plain one at the largest dose.

    Where a domain has no plain one, the next in `PREFERRED`.
    """
    order = sorted(built, key=lambda unit: (PREFERRED.index(unit[0].variant), -unit[0].dose))
    found: dict[str, str] = {}
    for cell, key in order:
        found.setdefault(cell.domain, key)
    return found


def together(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    """What goes into one call, by name: a unit, or all that one cell is asked, which keeps batches full."""
    calls: dict[str, list[Unit]] = {}
    for unit in units:
        calls.setdefault(unit.cell.name if unit.stage in ("sample", "ask", "grade") else unit.name, []).append(unit)
    return calls


def judge_key(judge: str, answers: str) -> str:
    """Key of the judgments of one shard of answers by the judge of that identity."""
    return _key("judge", canonical(judge), _text(answers))


class _Keys:
    """Canonical JSON of what many keys have in common, written once: a study may have a hundred thousand cells."""

    def __init__(self, config: StudyConfig, made_of: Ingredients) -> None:
        self.seed = canonical(config.seed)
        self.weights = {model.name: canonical(weights(model)) for model in config.models}
        self.trained = {model.name: canonical(trained_weights(model)) for model in config.models}
        self.train = _text(config.train.hash())
        self.membership = _text(config.membership.hash()) if config.membership else ""
        self.diversity = _text(config.diversity.hash()) if config.diversity else ""
        read = {"layers", "stride", "answers"}
        self.directions = canonical(config.directions.model_dump(include=read)) if config.directions else ""
        shape = canonical(config.sample.model_dump(mode="json", include={"n", "max_tokens", "temperature", "top_p"}))
        questions = canonical([question.id for question in made_of.questions])
        trigger = made_of.trigger
        self.asked = {
            condition: ",".join((shape, questions, _text(condition), _text("" if condition == "clean" else trigger)))
            for condition in config.sample.conditions
        }
        self._reader, self._made_of = config.models[0].name, made_of
        self._data = canonical(
            config.data.model_dump(mode="json", exclude={"sources", "trigger", "trigger_value", "triggered_share"})
        )
        self._trigger = canonical([trigger, config.data.triggered_share])

    def build_unit(self, cell: Cell) -> Unit:
        """The data set that a cell trains on."""
        trigger = self._trigger if cell.variant == "triggered" else "[]"
        recipe = (cell.domain, self._made_of.sources[cell.domain], cell.variant, cell.dose)
        key = _key("build", self.seed, self._data, trigger, *map(canonical, recipe), self.trained[self._reader])
        return Unit("build", Cell(model=self._reader, domain=cell.domain, variant=cell.variant, dose=cell.dose), key)


def weights(model: ModelConfig) -> list[object]:
    """What the weights of a base model are known by."""
    said: list[object] = [model.backend, model.path or model.name, model.revision, model.dtype, model.options]
    return said if model.quantize == "none" else [*said, model.quantize]


def trained_weights(model: ModelConfig) -> list[object]:
    """The same in data sets and adapters: backends that train by the same code share these, and sample by their own."""
    backend = READS_AND_TRAINS_BY.get(model.backend, model.backend)
    return weights(model.model_copy(update={"backend": backend}))


def _key(stage: str, *parts: str) -> str:
    """The hash of a list whose members' canonical JSON is given."""
    return text_hash(
        _list(_text(stage), str(STAGES[stage].version if stage in STAGES else RANK_VERSION), *parts), length=16
    )


def _list(*parts: str) -> str:
    return f"[{','.join(parts)}]"


def _text(name: str) -> str:
    """JSON of a hash or a name, which need no escapes."""
    return f'"{name}"'
