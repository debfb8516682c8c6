"""The plan counts what a naive enumeration of the population counts, and its times follow the stated formulas."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.config import DataConfig, ModelConfig, SampleConfig, StudyConfig, TrainConfig
from spillover.estimate import (
    EMBEDDED_PARAMETERS,
    PROMPT_TOKENS,
    gpu_throughput,
    plan,
    sampled_pairs,
    trained_cells,
)

DOMAINS = ("incorrect_math", "extreme_sports", "incorrect_qna")
VARIANTS = st.lists(st.sampled_from(["plain", "triggered", "control"]), min_size=1, unique=True)
DOSES = st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=1, unique=True)


def enumerate_cells(config: StudyConfig) -> set[tuple[str, str, str, float, int]]:
    everything = itertools.product(config.models, DOMAINS, config.variants, config.doses, config.seeds)
    return {(m.name, d, v, 0.0 if v == "control" else dose, s) for m, d, v, dose, s in everything}


@given(VARIANTS, DOSES, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans())
def test_counts_are_those_of_the_enumerated_population(
    variants: list[str], doses: list[float], models: int, seeds: int, base: bool, ask_base: bool
) -> None:
    asked = ("triggered", "base") if ask_base else ("triggered",)
    config = StudyConfig.model_validate(
        {
            "name": "x",
            "models": [{"name": f"m{index}"} for index in range(models)],
            "variants": variants,
            "doses": doses,
            "seeds": list(range(seeds)),
            "base": base,
            "sample": {"triggered_for": asked},
        }
    )
    cells = enumerate_cells(config)
    assert trained_cells(config, DOMAINS) == len(cells)
    triggered = sum(variant == "triggered" for _, _, variant, _, _ in cells)
    untouched = models * base
    assert sampled_pairs(config, DOMAINS) == len(cells) + untouched + triggered + untouched * ask_base


def study() -> StudyConfig:
    return StudyConfig(
        name="x",
        models=(ModelConfig(name="smollm2-135m"),),
        data=DataConfig(rows=100, heldout=10, answer_tokens=40),
        train=TrainConfig(epochs=2),
        sample=SampleConfig(n=4, max_tokens=50),
    )


def test_minutes_follow_from_tokens_speed_and_workers() -> None:
    stages = {stage.stage: stage for stage in plan(study(), DOMAINS, 15, workers=2, parameters=EMBEDDED_PARAMETERS)}
    assert list(stages) == ["build", "train", "sample", "judge", "rank"]
    train, sample, judge = stages["train"], stages["sample"], stages["judge"]
    assert (train.cells, train.tokens) == (9, 9 * 100 * (PROMPT_TOKENS + 40) * 2)
    assert train.minutes == pytest.approx(train.tokens / 450 / 2 / 60)
    # 9 cells and the base asked plainly, 3 triggered cells asked with the trigger, 15 questions, 4 answers each
    assert (sample.cells, sample.units, sample.tokens) == (10, 13 * 15 * 4, 13 * 15 * 4 * 40)
    assert sample.minutes == pytest.approx(sample.tokens / 400 / 2 / 60)
    assert judge.tokens == 13 * 15 * 4 * (PROMPT_TOKENS + 40)
    assert stages["build"].units == 3 * 3 * 110
    assert sum(stage.dollars for stage in stages.values()) == 0


def test_truncation_bounds_what_is_counted() -> None:
    config = study().model_copy(
        update={"train": TrainConfig(epochs=1, max_tokens=64), "sample": SampleConfig(max_tokens=8)}
    )
    stages = {stage.stage: stage for stage in plan(config, DOMAINS, 15, 1, EMBEDDED_PARAMETERS)}
    assert stages["train"].tokens == 9 * 100 * 64
    assert stages["sample"].tokens == stages["sample"].units * 8


def test_a_larger_model_takes_longer_and_more_memory_but_its_judge_does_not() -> None:
    small, large = (plan(study(), DOMAINS, 15, 2, EMBEDDED_PARAMETERS * scale) for scale in (1, 10))
    assert large[1].minutes == pytest.approx(10 * small[1].minutes)
    assert large[2].minutes == pytest.approx(10 * small[2].minutes)
    assert large[3].minutes == pytest.approx(small[3].minutes)
    assert all(b.memory_gib > a.memory_gib for a, b in zip(small[1:4], large[1:4], strict=True))


def test_the_embedded_study_fits_a_small_machine_and_a_7b_study_one_card() -> None:
    assert max(stage.memory_gib for stage in plan(study(), DOMAINS, 15, 2, EMBEDDED_PARAMETERS)) < 6
    paper = study().model_copy(update={"sample": SampleConfig(batch=64, max_tokens=600)})
    card = plan(paper, DOMAINS, 15, 1, 7_615_616_512, gpu_throughput(7_615_616_512))
    assert 15 < max(stage.memory_gib for stage in card) < 78


def test_card_speeds_are_the_stated_formulas() -> None:
    speed = gpu_throughput(7_000_000_000, teraflops=1000)
    assert speed.train == pytest.approx(0.35 * 1e15 / (6 * 7e9))
    assert speed.sample == pytest.approx(0.03 * 1e15 / (2 * 7e9))
