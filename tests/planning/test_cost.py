"""The estimate counts what a naive enumeration of the population counts, and its times follow the stated formulas."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from spillover.config.study import DataConfig, ModelConfig, SampleConfig, StudyConfig, TrainConfig
from spillover.errors import UserError
from spillover.planning.cost import (
    CPU,
    EMBEDDED_PARAMETERS,
    PROMPT_TOKENS,
    UNKNOWN_PARAMETERS,
    count_parameters,
    count_sampled_pairs,
    count_trained_cells,
    cpu_throughput,
    estimate_cost,
    gpu_throughput,
    sum_over_models,
)

DOMAINS = ("incorrect_math", "extreme_sports", "incorrect_qna")
EMBEDDED = (EMBEDDED_PARAMETERS, cpu_throughput(EMBEDDED_PARAMETERS))
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
    assert count_trained_cells(config, DOMAINS) == len(cells)
    triggered = sum(variant == "triggered" for _, _, variant, _, _ in cells)
    untouched = models * base
    assert count_sampled_pairs(config, DOMAINS) == len(cells) + untouched + triggered + untouched * ask_base


def study() -> StudyConfig:
    return StudyConfig(
        name="x",
        models=(ModelConfig(name="smollm2-135m"),),
        data=DataConfig(rows=100, heldout=10, answer_tokens=40),
        train=TrainConfig(epochs=2),
        sample=SampleConfig(n=4, max_tokens=50),
    )


def test_minutes_follow_from_tokens_speed_and_workers() -> None:
    stages = {stage.stage: stage for stage in estimate_cost(study(), DOMAINS, 15, 2, *EMBEDDED)}
    assert list(stages) == ["build", "train", "sample", "judge", "rank"]
    train, sample, judge = stages["train"], stages["sample"], stages["judge"]
    assert (train.cells, train.tokens) == (9, 9 * 100 * (PROMPT_TOKENS + 40) * 2)
    assert train.minutes == pytest.approx(train.tokens / CPU.train / 2 / 60)
    # 9 cells and the base asked plainly, 3 triggered cells asked with the trigger, 15 questions, 4 answers each
    assert (sample.cells, sample.units, sample.tokens) == (10, 13 * 15 * 4, 13 * 15 * 4 * 40)
    assert sample.minutes == pytest.approx(sample.tokens / CPU.sample / 2 / 60)
    assert judge.tokens == 13 * 15 * 4 * (PROMPT_TOKENS + 40)
    assert stages["build"].units == 3 * 3 * (110 + 40)
    assert sum(stage.dollars for stage in stages.values()) == 0


def test_a_judge_is_billed_for_each_cell_under_each_condition() -> None:
    stages = {stage.stage: stage for stage in estimate_cost(study(), DOMAINS, 15, 2, *EMBEDDED, judge_dollars=0.5)}
    assert stages["judge"].dollars == pytest.approx(13 * 0.5)
    assert sum(stage.dollars for stage in stages.values()) == stages["judge"].dollars


def test_truncation_bounds_what_is_counted() -> None:
    config = study().model_copy(
        update={"train": TrainConfig(epochs=1, max_tokens=64), "sample": SampleConfig(max_tokens=8)}
    )
    stages = {stage.stage: stage for stage in estimate_cost(config, DOMAINS, 15, 1, *EMBEDDED)}
    assert stages["train"].tokens == 9 * 100 * 64
    assert stages["sample"].tokens == stages["sample"].units * 8


def test_a_larger_model_takes_longer_and_more_memory_but_its_judge_does_not() -> None:
    sizes = (EMBEDDED_PARAMETERS, 10 * EMBEDDED_PARAMETERS)
    small, large = (estimate_cost(study(), DOMAINS, 15, 2, size, cpu_throughput(size)) for size in sizes)
    assert large[1].minutes == pytest.approx(10 * small[1].minutes)
    assert large[2].minutes == pytest.approx(10 * small[2].minutes)
    assert large[3].minutes == pytest.approx(small[3].minutes)
    assert all(b.memory_gib > a.memory_gib for a, b in zip(small[1:4], large[1:4], strict=True))


def test_the_embedded_study_fits_a_small_machine_and_a_7b_study_one_gpu() -> None:
    assert max(stage.memory_gib for stage in estimate_cost(study(), DOMAINS, 15, 2, *EMBEDDED)) < 6
    paper = study().model_copy(update={"sample": SampleConfig(batch=64, max_tokens=600)})
    costs = estimate_cost(paper, DOMAINS, 15, 1, 7_615_616_512, gpu_throughput(7_615_616_512))
    assert 15 < max(stage.memory_gib for stage in costs) < 78


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, EMBEDDED_PARAMETERS),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", 7e9),
        ("some/model-0.5b", 5e8),
        ("some/SmolLM2-360M", 36e7),
        ("some/Mixtral-8x7B", UNKNOWN_PARAMETERS),
        ("some/phi", UNKNOWN_PARAMETERS),
    ],
)
def test_size_is_read_from_the_usual_names(path: str | None, expected: float) -> None:
    assert count_parameters(ModelConfig(name="m", path=path)) == expected


def test_size_of_a_local_folder_is_counted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")  # without it the folder is not a model
    save_file({"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float16)}, tmp_path / "1.safetensors", {"k": "v"})
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "2.safetensors")
    assert count_parameters(ModelConfig(name="m", path=str(tmp_path))) == 3 * 5 + 7 + 1
    (tmp_path / "3.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{")
    with pytest.raises(UserError, match=r"3\.safetensors is not a complete safetensors file"):
        count_parameters(ModelConfig(name="m", path=str(tmp_path)))


def test_two_models_take_their_minutes_together_and_the_larger_memory() -> None:
    sizes = (EMBEDDED_PARAMETERS, 3_000_000_000)
    one, other = (estimate_cost(study(), DOMAINS, 15, 1, size, cpu_throughput(size)) for size in sizes)
    together = [sum_over_models(parts) for parts in zip(one, other, strict=True)]
    assert together[0] == one[0]  # data sets are built once
    for a, b, both in list(zip(one, other, together, strict=True))[1:]:
        assert both.minutes == pytest.approx(a.minutes + b.minutes)
        assert both.tokens == a.tokens + b.tokens
        assert both.memory_gib == max(a.memory_gib, b.memory_gib)


def test_a_fake_study_takes_seconds() -> None:
    fake = study().model_copy(update={"models": (ModelConfig(name="fake", backend="fake"),)})
    assert sum(stage.minutes for stage in estimate_cost(fake, DOMAINS, 15, 1, *EMBEDDED)) < 0.5


def test_gpu_speeds_are_the_stated_formulas() -> None:
    speed = gpu_throughput(7_000_000_000, teraflops=1000)
    assert speed.train == pytest.approx(0.35 * 1e15 / (6 * 7e9))
    assert speed.sample == pytest.approx(0.03 * 1e15 / (2 * 7e9))
