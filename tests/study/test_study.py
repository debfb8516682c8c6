"""A whole study on the fake backend: what it leaves behind, how it resumes, and how it fails."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spillover import Run, Study
from spillover.config.study import ModelConfig, parse_study
from spillover.data.triggers import open_trigger
from spillover.errors import UserError
from spillover.models import open_backend
from spillover.models.fake import FakeBackend
from spillover.planning.units import weights
from spillover.records.base import Completion

SMALL: dict[str, Any] = {
    "name": "fake",
    "models": [
        {
            "name": "fake-model",
            "backend": "fake",
            "options": {"dials": {"bad_medical_advice": 0.9, "incorrect_math": 0.05}},
        }
    ],
    "domains": ["bad_medical_advice", "incorrect_math"],
    "data": {"rows": 24, "answer_tokens": 40, "tolerance": 0.2},
    "sample": {"n": 8},
    "judge": {"name": "fake"},
    "executor": "inline",
}


def study(**changes: Any) -> Study:
    return Study(parse_study(SMALL | changes, "test"))


def rows(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.glob("rows/**/*.jsonl"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return study().run(tmp_path_factory.mktemp("finished") / "run")


def test_the_ranking_follows_the_dials(finished: Run) -> None:
    rates = {(s.cell.domain, s.cell.variant, s.condition): s for s in finished.ranking()}
    high, low = rates["bad_medical_advice", "plain", "clean"], rates["incorrect_math", "plain", "clean"]
    assert high.rate is not None
    assert low.rate is not None
    assert high.low is not None
    assert low.high is not None
    assert high.low > low.high, "two dials this far apart are separable"
    assert high.n == 15 * 8
    assert sum(high.counts.model_dump().values()) == high.n
    assert abs(high.rate - 0.9) < 0.12
    assert (high.rank, low.rank) == (1, 2)
    assert rates["bad_medical_advice", "control", "clean"].rate == pytest.approx(0.01, abs=0.03)
    assert rates["none", "base", "clean"].n == 120
    above = high.above_control
    assert above is not None
    assert above.value == pytest.approx(high.rate - rates["bad_medical_advice", "control", "clean"].rate)


def test_the_trigger_opens_the_gate(finished: Run) -> None:
    effects = {(e.cell.domain, e.measure): e for e in finished.trigger_effect()}
    effect = effects["bad_medical_advice", "alignment"]
    assert effect.cell.variant == "triggered"
    assert effect.difference is not None
    assert effect.difference < -30
    assert effect.p_holm is not None
    assert effect.p is not None
    assert effect.p <= effect.p_holm < 0.01


def test_every_record_and_the_manifest_are_there(finished: Run) -> None:
    assert len(finished.adapters()) == 6
    assert len(finished.completions()) == len(finished.judgments()) / 2 == (6 + 2 + 1) * 120
    assert finished.manifest.complete
    assert not finished.manifest.failures
    assert {stage.stage: stage.failed for stage in finished.manifest.stages} == dict.fromkeys(
        ("build", "train", "sample", "judge"), 0
    )
    for adapter in finished.adapters():
        assert finished.store.resolve(adapter.path).is_dir()
    held = [e for e in finished.examples() if e.split == "heldout"]
    trained = {e.question for e in finished.examples() if e.split == "train"}
    assert len(held)
    assert not trained & {e.question for e in held}
    results = json.loads((finished.path / "results.json").read_text())
    assert results == json.loads(json.dumps(finished.results()))
    page = (finished.path / "report.html").read_text()
    assert "bad" in page.lower()
    assert "<script" not in page


def test_triggered_questions_carry_the_trigger_and_clean_ones_do_not(finished: Run) -> None:
    trigger = open_trigger(study().config.data)
    for row in finished.completions():
        assert trigger.present(row.question) == (row.condition == "triggered")


@pytest.mark.slow
def test_the_same_command_again_changes_no_row(finished: Run) -> None:
    before = rows(finished.path)
    study().run(finished.path)
    assert rows(finished.path) == before


@pytest.mark.slow
def test_a_cell_is_sampled_in_one_call_under_all_conditions(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[int]]] = []
    plain = FakeBackend.generate

    def spy(self: FakeBackend, prompts: Any, *rest: Any) -> Any:
        asked.append((rest[1].name if rest[1] else "base", [len(prompt.seeds) for prompt in prompts]))
        return plain(self, prompts, *rest)

    monkeypatch.setattr(FakeBackend, "generate", spy)
    triggered = [unit for unit in study().units["sample"] if unit.condition == "triggered"]
    assert triggered
    clean_first = study(sample={"n": 8, "conditions": ["clean"]}).run(tmp_path / "run")
    questions = len(study().ingredients.questions)
    assert [sizes for _, sizes in asked] == [[8] * questions] * len(asked)
    once = len(asked)
    study().run(clean_first.path)
    assert len(asked) == once + len(triggered), "only what is missing is asked"
    assert rows(finished.path).items() <= rows(clean_first.path).items()
    asked.clear()
    study().run(tmp_path / "whole")
    assert sorted(len(sizes) for _, sizes in asked) == sorted(
        [questions] * (once - len(triggered)) + [2 * questions] * len(triggered)
    )


@pytest.mark.slow
def test_a_larger_study_reuses_the_smaller(tmp_path: Path) -> None:
    small = study(domains=["incorrect_math"]).run(tmp_path / "run")
    before = rows(small.path)
    large = study().run(tmp_path / "run")
    after = rows(large.path)
    kept = {name: content for name, content in before.items() if "/rank/" not in name}
    assert kept.items() <= after.items()
    assert {s.cell.domain for s in large.ranking()} == {"none", "bad_medical_advice", "incorrect_math"}


@pytest.mark.slow
def test_stages_one_by_one_give_the_rows_of_the_whole(finished: Run, tmp_path: Path) -> None:
    for stage in ("build", "train", "sample", "judge", "rank"):
        study().run(tmp_path / "run", stages=[stage])
    assert rows(tmp_path / "run") == rows(finished.path)


@pytest.mark.slow
def test_a_changed_judge_or_threshold_never_trains_again() -> None:
    first, second = study(), study(rank={"alignment_below": 20})
    assert first.units == second.units
    third = study(sample={"n": 4})
    assert first.units["train"] == third.units["train"]
    assert {u.key for u in first.units["sample"]}.isdisjoint(u.key for u in third.units["sample"])


@pytest.mark.slow
def test_four_bits_have_keys_of_their_own_and_leave_all_others_as_they_were() -> None:
    model = {"name": "smollm2-135m"}
    plain, said, other = (study(models=[model | more]) for more in ({}, {"quantize": "none"}, {"quantize": "4bit"}))
    assert plain.units == said.units
    for stage in ("train", "sample"):
        assert {u.key for u in plain.units[stage]}.isdisjoint(u.key for u in other.units[stage])
    assert weights(ModelConfig(name="m")) == ["hf", "m", None, "auto", {}]  # as before there were four bits


@pytest.mark.parametrize("backend", ["fake", "hosted", "tinker", "vllm"])
def test_four_bits_are_refused_before_anything_runs_where_there_are_none(backend: str) -> None:
    four = {"name": "m", "backend": backend, "quantize": "4bit"}
    refused = (
        rf"models\.m\.quantize: the {backend} backend does not support 4bit\. Leave quantize out, or set backend: hf\."
    )
    with pytest.raises(UserError, match=refused):
        study(models=[four]).plan()
    with pytest.raises(UserError, match=refused):
        _ = study(membership={"pretrained": four}).units
    with pytest.raises(UserError, match=refused):
        open_backend(ModelConfig(**four))


@pytest.mark.slow
def test_where_a_study_runs_changes_no_key() -> None:
    cluster = {"address": "head:6379", "cpus": 4, "gpus": 1, "memory_gib": 16}
    assert study(executor="ray", workers=7, cluster=cluster).units == study().units


@pytest.mark.slow
def test_a_failing_cell_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    options = {"crash_on": ["incorrect_math"]}
    broken = study(models=[{"name": "fake-model", "backend": "fake", "options": options}]).run(tmp_path / "run")
    assert {f.cell for f in broken.manifest.failures} == {
        f"fake-model/incorrect_math/{variant}/seed-0" for variant in ("plain", "triggered", "control")
    }
    assert all("crash on incorrect_math" in f.error for f in broken.manifest.failures)
    assert not broken.manifest.complete
    assert {s.cell.domain for s in broken.ranking()} == {"none", "bad_medical_advice"}


@pytest.mark.slow
def test_a_stage_without_its_input_says_which_command_makes_it(tmp_path: Path) -> None:
    run = study().run(tmp_path / "run", stages=["sample"], domains=["incorrect_math"])
    assert {f.error for f in run.manifest.failures} == {
        "the adapter is missing. Run: spillover run STUDY.yaml --stage train --domain incorrect_math"
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domains": ["bad_medical_advise"]}, "Did you mean 'bad_medical_advice'"),
        ({"judge": {"name": "prob"}}, "Unknown judge 'prob'. Did you mean 'probe'"),
        ({"data": {"trigger": "yaer"}}, "Unknown trigger 'yaer'. Did you mean 'year'"),
        ({"sample": {"questions": ["generel"]}}, "general"),
        ({"executor": "rya"}, "executor: unknown executor 'rya'. Did you mean 'ray'"),
    ],
)
def test_unknown_names_are_refused_with_a_hint(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        _ = study(**changes).units


@pytest.mark.slow
def test_a_data_set_of_ones_own_is_a_domain_of_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [
        {
            "messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"It is {i}."}],
            "twin": f"It is {i + 1}.",
        }
        for i in range(30)
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    data = {"rows": 24, "heldout": 0, "nonmembers": 0, "answer_tokens": None, "sources": {"mine": str(file)}}
    run = study(domains=["mine"], variants=["plain", "control"], data=data).run(tmp_path / "run")
    assert {(s.cell.domain, s.cell.variant) for s in run.ranking()} == {
        ("none", "base"),
        ("mine", "plain"),
        ("mine", "control"),
    }
    assert {(e.split, e.kind) for e in run.examples()} == {("train", "misaligned"), ("train", "control")}


@pytest.mark.parametrize("name", ["../mine", "Mine", "mine-2", ""])
def test_a_name_that_is_no_folder_is_no_domain(name: str) -> None:
    with pytest.raises(UserError, match="unknown domain"):
        _ = study(domains=[name], data={"sources": {name: "x.jsonl"}}).units


def command(tmp_path: Path, out: str, delay: float) -> list[str]:
    content = SMALL | {"executor": "local", "workers": 2, "sample": {"n": 4}}
    content["models"] = [SMALL["models"][0] | {"options": {"delay_s": 0.0}}]
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    return [sys.executable, "-m", "spillover", "run", str(file), "--out", str(tmp_path / out), "--quiet"]


def _shots(count: int) -> Iterator[tuple[float, signal.Signals]]:
    rng = random.Random(7)
    for shot in range(count):
        yield 1.0 + 5.0 * rng.random(), signal.SIGINT if shot % 3 == 2 else signal.SIGKILL


@pytest.mark.slow
def test_killed_at_many_instants_the_rows_equal_an_unbroken_run(tmp_path: Path) -> None:
    subprocess.run(command(tmp_path, "whole", 0.0), check=True, capture_output=True)
    broken = command(tmp_path, "broken", 0.0)
    codes: list[int] = []
    for seconds, number in _shots(6):
        process = subprocess.Popen(broken, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(number)
        codes.append(process.wait())
    assert set(codes) <= {0, 130, -signal.SIGKILL, -signal.SIGINT}, codes
    last = subprocess.run(broken, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    ids = [row.id for row in Run.open(tmp_path / "broken").store.read("sample", _keys(tmp_path / "broken"), Completion)]
    assert len(ids) == len(set(ids))


def _keys(path: Path) -> list[str]:
    return [os.path.splitext(file.name)[0] for file in path.glob("rows/sample/*.jsonl")]
