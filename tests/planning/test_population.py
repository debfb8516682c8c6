"""Keys stay what they are however fast they are made, and a hundred thousand cells are planned in seconds."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover import Run, Study
from spillover.config.study import ModelConfig, StudyConfig, parse_study
from spillover.data.triggers import open_trigger
from spillover.planning.units import Ingredients, Unit, asked_units, cells, judge_key, trained_weights, units, weights
from spillover.records.base import Cell, Question, content_hash
from spillover.records.stages import STAGES
from spillover.store.store import Store

DOMAINS = ("incorrect_math", "extreme_sports")


def key(stage: str, *content: object) -> str:
    """The definition, without any haste."""
    text = json.dumps(
        [stage, STAGES[stage].version, *content], sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str
    )
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()[:16]


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()[:20]


def made_of(config: StudyConfig, judge: str) -> Ingredients:
    questions = [Question(set_name="s", question_id=f"q{i}", theme="t", text=f"Café {i}?") for i in range(3)]
    sources = {name: digest(name) for name in DOMAINS}
    return Ingredients(DOMAINS, sources, content_hash(repr(open_trigger(config.data))), tuple(questions), judge)


def slow_keys(config: StudyConfig, known: Ingredients) -> dict[str, list[str]]:
    """Every key worked out from its definition, cell by cell, with nothing kept."""
    found: dict[str, list[str]] = {stage: [] for stage in STAGES if stage not in ("ask", "grade")}

    def weights(name: str) -> list[object]:
        model = next(model for model in config.models if model.name == name)
        return [model.backend, model.path or model.name, model.revision, model.dtype, model.options]

    def once(stage: str, made: str) -> None:
        if made not in found[stage]:
            found[stage].append(made)

    for cell in cells(config, known.domains):
        who, trained = cell.model_dump(mode="json"), []
        if cell.variant != "base":
            data_config = config.data.model_dump(mode="json")
            for name in ("sources", "trigger", "trigger_value", "triggered_share"):
                del data_config[name]
            trigger = [known.trigger, config.data.triggered_share] if cell.variant == "triggered" else []
            place = (cell.domain, known.sources[cell.domain], cell.variant, cell.dose)
            data = key("build", config.seed, data_config, trigger, *place, weights(config.models[0].name))
            once("build", data)
            if config.diversity:
                once("diversity", key("diversity", config.seed, config.diversity.hash(), data))
            trained = [key("train", config.seed, config.train.hash(), weights(cell.model), who, data)]
            found["train"] += trained
            if config.membership:
                found["membership"].append(key("membership", config.seed, config.membership.hash(), data, trained[0]))
        for condition in config.sample.conditions:
            if condition == "clean" or cell.variant in config.sample.triggered_for:
                sample = config.sample
                shape = {name: getattr(sample, name) for name in ("n", "max_tokens", "temperature", "top_p")}
                questions = [question.id for question in known.questions]
                trigger = "" if condition == "clean" else known.trigger
                subject = [weights(cell.model), who, *trained]
                answers = key("sample", config.seed, shape, questions, condition, trigger, subject)
                found["sample"].append(answers)
                found["judge"].append(key("judge", known.judge, answers))
    return found


MODELS = st.lists(
    st.fixed_dictionaries(
        {
            "path": st.sampled_from([None, 'a/"quoted"', "Ünïcode/7b", "back\\slash"]),
            "revision": st.sampled_from([None, "abc"]),
            "options": st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
        }
    ),
    min_size=1,
    max_size=2,
)


@given(
    models=MODELS,
    doses=st.sampled_from([[1.0], [0.1, 0.5, 1.0]]),
    seeds=st.sampled_from([[0], [3, 5]]),
    base=st.booleans(),
    asked=st.booleans(),
    temperature=st.sampled_from([0, 1.0, 0.7]),
    judge=st.text(max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_every_key_is_the_hash_of_its_definition(
    models: list[dict[str, Any]],
    doses: list[float],
    seeds: list[int],
    base: bool,
    asked: bool,
    temperature: float,
    judge: str,
) -> None:
    content = {
        "name": "x",
        "models": [{"name": f"m{i}", "backend": "fake"} | model for i, model in enumerate(models)],
        "domains": list(DOMAINS),
        "doses": doses,
        "seeds": seeds,
        "base": base,
        "sample": {"temperature": temperature, "triggered_for": ["triggered", "base"] if asked else ["triggered"]},
        "membership": {} if asked else None,
        "diversity": {} if base else None,
    }
    config = parse_study(content, "x")
    known = made_of(config, judge)
    made = units(config, known)
    assert {stage: [unit.key for unit in made[stage]] for stage in made} == slow_keys(config, known)


def test_known_keys() -> None:
    """Figures of the first release: if one moves, every run folder in the world is computed again."""
    assert judge_key("fake:0", "ab12") == "f64e3222703a2358"
    cell = Cell(model="m", domain="incorrect_math", variant="plain")
    assert (
        key("train", 0, "f" * 20, ["fake", "m", None, "auto", {}], cell.model_dump(mode="json"), "ab12")
        == "72e586c0da0d5bdc"
    )


def test_inputs_are_the_keys_of_the_stages_before() -> None:
    config = parse_study({"name": "x", "membership": {}, "diversity": {}, "seeds": [0, 1]}, "x")
    made = units(config, made_of(config, "j"))
    by_key: dict[str, Unit] = {unit.key: unit for stage in made.values() for unit in stage}
    before = {"train": ["build"], "judge": ["sample"], "membership": ["build", "train"], "diversity": ["build"]}
    for stage, inputs in before.items():
        for unit in made[stage]:
            assert [by_key[name].stage for name in unit.inputs] == inputs
            assert by_key[unit.inputs[0]].cell.domain == unit.cell.domain
    for unit in made["sample"]:
        assert [by_key[name].cell for name in unit.inputs] == ([] if unit.cell.variant == "base" else [unit.cell])


@pytest.mark.slow
def test_the_time_of_a_plan_grows_as_its_cells_do(tmp_path: Path) -> None:
    """A hundred thousand cells take about ten times as long as ten thousand: nothing looks at every two of them."""

    def seconds(seeds: int) -> float:
        content = {
            "name": "large",
            "models": [{"name": f"m{i}", "backend": "fake"} for i in range(20)],
            "doses": [0.25, 0.5, 1.0],
            "seeds": list(range(seeds)),
            "judge": {"name": "fake"},
        }
        study = Study(parse_study(content, "large"))
        assert study.population() > 1_500 * seeds
        store = Store(tmp_path / f"run-{seeds}")
        start = time.process_time()
        study.plan()
        store.write_plan(study._plan_of_units())
        spent = time.process_time() - start
        with open(store.path / "plan.json", "rb") as file:
            assert sum(1 for _ in file) > sum(map(len, study.units.values()))
        return spent

    small, large = seconds(7), seconds(70)
    assert large < 25 * small, f"{small:.2f} s and {large:.2f} s of the processor"


@pytest.mark.slow
def test_the_plan_on_disk_is_the_plan(tmp_path: Path) -> None:
    study = Study(
        parse_study({"name": "x", "judge": {"name": "fake"}, "models": [{"name": "m", "backend": "fake"}]}, "x")
    )
    store = Store(tmp_path / "run")
    store.write_plan(study._plan_of_units())
    for stage, planned in Run(store).plan.items():
        assert [(u.cell, u.condition, u.key) for u in planned] == [
            (u.cell, u.condition, u.key) for u in study.units[stage]
        ]


def by_stage(backend: str) -> dict[str, set[str]]:
    model = {"name": "smollm2-135m", "backend": backend}
    asked: dict[str, Any] = {"membership": {}, "diversity": {}, "directions": {}, "transfer": {}}
    config = parse_study({"name": "s", "models": [model], "domains": list(DOMAINS), **asked}, "test")
    planned = units(config, made_of(config, "probe:1"))
    planned |= asked_units(config, made_of(config, "probe:1"), planned)
    return {stage: {unit.key for unit in found} for stage, found in planned.items()}


def test_what_hf_has_trained_is_sampled_by_vllm_without_training_again() -> None:
    ours, theirs, other = by_stage("hf"), by_stage("vllm"), by_stage("fake")
    for stage in ("build", "train", "membership", "diversity"):  # made by the same code
        assert ours[stage] == theirs[stage]
        assert ours[stage].isdisjoint(other[stage])
    for stage in ("sample", "judge", "ask", "grade", "direct"):  # of answers that differ
        assert ours[stage].isdisjoint(theirs[stage])
    model = ModelConfig(name="m", revision="abc", dtype="bfloat16")
    assert trained_weights(model) == weights(model) == ["hf", "m", "abc", "bfloat16", {}]  # keys of hf are as they were
