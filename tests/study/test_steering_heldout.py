"""The base model, steered, asked held-out questions of every domain, on the fake backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_directions import KNOWN, along

from spillover.analyses.steering import kept
from spillover.analyses.steering.units import general_settings, steer_unit
from spillover.config.study import SteerConfig, StudyConfig, parse_study
from spillover.errors import RunInterrupted, UserError
from spillover.models.fake import FakeBackend
from spillover.records.base import Cell, Example
from spillover.records.steering import SteeringSample
from spillover.records.transfer import OTHERS
from spillover.study import steering
from spillover.study.run import Run
from spillover.study.study import Study

STUDY: dict[str, Any] = {
    "name": "steered",
    "models": [{"name": "m", "backend": "fake", "options": {"dials": {"gore_movie_trivia": 0.6}}}],
    "domains": ["gore_movie_trivia", "extreme_sports"],
    "variants": ["plain"],
    "data": {"rows": 8, "heldout": 6, "answer_tokens": None},
    "sample": {"n": 2, "limit": 5, "conditions": ["clean"]},
    "transfer": {"questions": 4, "n": 3},
    "judge": {"name": "fake"},
    "workers": 1,
}
WANTED = SteerConfig(layers=(1, 2), controls=9, asked=("heldout",), heldout_coefficient=1.5)
EACH = 2 * 4 * 3  # answers under one intervention


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Study(StudyConfig.model_validate(STUDY)).run(tmp_path_factory.mktemp("run") / "r")


def asked(run: Run, wanted: SteerConfig) -> steering.SteeringRequest:
    assert run.config is not None
    trained = [(unit.cell, unit.key) for unit in run.plan["train"]]
    return steering.SteeringRequest(
        run.config, wanted, trained, KNOWN, {u.cell.domain: u.key for u in run.plan["build"]}
    )


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call of the sampler gives."""
    sizes: list[int] = []
    plain = FakeBackend.generate

    def spy(self: FakeBackend, prompts: Any, *rest: Any) -> Any:
        sizes.append(sum(len(prompt.seeds) for prompt in prompts))
        return plain(self, prompts, *rest)

    monkeypatch.setattr(FakeBackend, "generate", spy)
    return sizes


def test_the_direction_that_matters_is_told_from_random_ones_whatever_is_asked(run: Run) -> None:
    assert steering.steer(run.store, asked(run, WANTED), workers=1) == []
    found = {(s.direction, s.asked): s for s in kept.matrix_cells(run.store)}
    domains = ("gore_movie_trivia", "extreme_sports")
    assert set(found) == {*((d, a) for d in (*domains, "none") for a in domains), *((d, OTHERS) for d in domains)}
    assert {(s.n, s.questions, s.layer, s.coefficient) for s in found.values()} == {(12, 4, 2, 1.5)}
    assert {s.amount for s in found.values() if s.direction == "none"} == {0}
    assert len({s.amount for s in found.values()}) == 2
    off, flat = (found[d, a].rate_change for d, a in (domains, domains[::-1]))
    assert off is not None
    assert off.value is not None
    assert off.value > 0.3
    assert off.p_holm is not None
    assert off.p_holm < 0.05
    assert flat is not None
    assert flat.p_holm is not None
    assert flat.p_holm > 0.05
    assert off.controls == flat.controls == 9
    assert not kept.effects(run.store, 0.95), "nothing was asked of the general questions"
    assert not kept.points(run.store)


def test_the_same_held_out_questions_are_asked_as_of_every_cell(run: Run) -> None:
    steering.steer(run.store, asked(run, WANTED), workers=1)
    (key,) = [path.stem for path in Path(run.path, "rows", "steered").glob("*.jsonl")]
    rows = run.store.read("steered", [key], SteeringSample)
    assert len(rows) == EACH * (1 + 2 + 9)
    about = {row.question_id: row.theme for row in rows}
    assert len(about) == 8
    base = {unit.key for unit in run.plan["ask"] if unit.cell.variant == "base"}
    answers = {
        row.question_id: row.theme for domain in about.values() for row in run.asked(domain)[0] if row.key in base
    }
    assert about == answers
    held = {row.pair: row for row in run.store.read("build", [u.key for u in run.plan["build"]], Example)}
    assert all(held[row.question_id].split == "heldout" for row in rows)
    assert all(row.question == held[row.question_id].question for row in rows)
    seeds: dict[tuple[str, int], set[int]] = {}
    for row in rows:
        seeds.setdefault((row.question_id, row.index), set()).add(row.seed)
    assert all(len(found) == 1 for found in seeds.values()), "every intervention meets the same uniform numbers"


def test_the_same_call_does_nothing_and_the_general_questions_come_on_top(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    steering.steer(run.store, asked(run, WANTED), workers=1)
    before = kept.matrix_cells(run.store)
    sizes = counted(monkeypatch)
    steering.steer(run.store, asked(run, WANTED), workers=1)
    assert sizes == []
    both = WANTED.model_copy(update={"asked": ("general", "heldout"), "onto": ("base",), "coefficients": (0.5,)})
    steering.steer(run.store, asked(run, both), workers=1)
    assert sizes == [5, 5 * (2 + 9) * 2]
    assert kept.matrix_cells(run.store) == before
    assert kept.effects(run.store, 0.95)
    assert steering.with_steering_counts(run.store, run.manifest, []).stages[-1].done == 2


@pytest.mark.slow
def test_a_killed_call_goes_on_where_it_stopped(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steering.steer(run.store, asked(run, WANTED), workers=1)
    opened = Study(StudyConfig.model_validate(STUDY)).run(tmp_path / "r")
    plain, left = FakeBackend.generate, [100]

    def dying(self: FakeBackend, *rest: Any) -> Any:
        for answer in plain(self, *rest):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield answer

    with monkeypatch.context() as patch:
        patch.setattr(FakeBackend, "generate", dying)
        with pytest.raises(RunInterrupted, match="Run the same command again to resume"):
            steering.steer(opened.store, asked(opened, WANTED), workers=1)
    sizes = counted(monkeypatch)
    steering.steer(opened.store, asked(opened, WANTED), workers=1)
    assert sum(sizes) == EACH * (1 + 2 + 9) - 100
    assert kept.matrix_cells(opened.store) == kept.matrix_cells(run.store)


def test_what_it_costs_is_planned() -> None:
    study = STUDY | {"directions": {}, "steer": {"layers": [1], "controls": 9, "asked": ["heldout"]}}
    (planned,) = [part for part in Study(StudyConfig.model_validate(study)).plan() if part.stage == "steer"]
    assert (planned.cells, planned.units) == (1, EACH * (1 + 2 + 9))
    study["steer"] = study["steer"] | {"asked": ["general", "heldout"], "coefficients": [0.5], "n": 2}
    (both,) = [part for part in Study(StudyConfig.model_validate(study)).plan() if part.stage == "steer"]
    general_answers = 5 * 2 * (1 + (2 + 9)) * 3  # one untouched and two fine-tuned models
    assert (both.cells, both.units) == (3, planned.units + general_answers)
    assert both.tokens > planned.tokens


def test_what_is_not_asked_for_changes_no_key() -> None:
    """Keys and calls as they were before held-out questions could be asked."""
    study = {"name": "k", "models": [{"name": "m", "backend": "fake"}], "sample": {"limit": 3}}
    config = StudyConfig.model_validate(study)
    base = Cell(model="m", domain="none", variant="base", dose=0.0)
    directions = {"gore_movie_trivia": {1: along(0, 1)}}
    for wanted in (SteerConfig(layers=(1,)), SteerConfig(layers=(1,), asked=("general", "heldout"), heldout_layer=3)):
        unit = steer_unit(config, wanted, base, "", "judge:1", directions)
        assert (unit.key, unit.answers, unit.judgments) == ("04f9d81d2e307294", "e489af65700f4f58", "b17f75a6e938f2ca")
        assert not {"asked", "heldout_layer", "heldout_coefficient"} & general_settings(wanted).keys()


def test_what_cannot_be_asked_is_said(run: Run) -> None:
    with pytest.raises(UserError, match=r"steer\.asked: heldout needs 'transfer: \{\}'"):
        parse_study(STUDY | {"transfer": None, "directions": {}, "steer": {"asked": ["heldout"]}}, "s.yaml")
    with pytest.raises(ValueError, match="add base to onto"):
        SteerConfig(asked=("heldout",), onto=("gore_movie_trivia",))
    with pytest.raises(ValueError, match="heldout_coefficient must not be 0"):
        SteerConfig(heldout_coefficient=0.0)
    with pytest.raises(UserError, match="not known at layer 9"):
        steering.steer(run.store, asked(run, WANTED.model_copy(update={"heldout_layer": 9})), workers=1)
    without = asked(run, WANTED)
    bare = without.config.model_copy(update={"transfer": None})
    lacking = steering.SteeringRequest(bare, WANTED, without.trained, KNOWN, without.data)
    with pytest.raises(UserError, match="needs the section transfer"):
        steering.steer(run.store, lacking, workers=1)
