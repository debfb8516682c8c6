"""Steering over a run of the fake backend, whose first number of the stream is misalignment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_directions import KNOWN

from spillover.analyses.steering import kept
from spillover.config.study import SteerConfig, StudyConfig
from spillover.errors import RunInterrupted, UserError
from spillover.models.fake import FakeBackend
from spillover.records.base import Cell, Judgment
from spillover.records.steering import WITHOUT_STEERING, SteeringSample
from spillover.study import steering
from spillover.study.run import Run
from spillover.study.study import Study

STUDY = {
    "name": "steered",
    "models": [
        {"name": "m", "backend": "fake", "options": {"dials": {"gore_movie_trivia": 0.6, "extreme_sports": 0.4}}}
    ],
    "domains": ["gore_movie_trivia", "extreme_sports"],
    "variants": ["plain"],
    "data": {"rows": 8, "heldout": 2, "answer_tokens": None},
    "sample": {"n": 2, "conditions": ["clean"]},
    "judge": {"name": "fake"},
    "workers": 1,
}
WANTED = SteerConfig(layers=(1, 2), coefficients=(0.5, 1.0, 3.0), controls=9, n=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Study(StudyConfig.model_validate(STUDY)).run(tmp_path_factory.mktemp("run") / "r")


def steer(run: Run, wanted: SteerConfig = WANTED) -> list[Any]:
    assert run.config is not None
    trained = [(unit.cell, unit.key) for unit in run.plan["train"]]
    return steering.steer(run.store, steering.SteeringRequest(run.config, wanted, trained, KNOWN), workers=1)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call of the sampler gives."""
    sizes: list[int] = []
    plain = FakeBackend.generate

    def spy(self: FakeBackend, prompts: Any, *rest: Any) -> Any:
        sizes.append(sum(len(prompt.seeds) for prompt in prompts))
        return plain(self, prompts, *rest)

    monkeypatch.setattr(FakeBackend, "generate", spy)
    return sizes


@pytest.mark.slow
def test_both_directions_of_evidence_are_found_and_held_against_random_directions(run: Run) -> None:
    assert steer(run) == []
    found = {
        (e.onto.domain, e.direction, e.layer, e.measure): e for e in kept.effects(run.store, run.rank_config.confidence)
    }
    assert len(found) == (2 * 2 + 2 + 2) * 2  # base: directions x layers; fine-tunes: directions; each by two measures
    # adding: the fake dial rises by a 1/8 of the amount
    for layer in (1, 2):
        up, flat = found["none", "gore_movie_trivia", layer, "rate"], found["none", "extreme_sports", layer, "rate"]
        assert up.coefficients == (0, 0.5, 1.0), "at 3 the stream is longer than 12, and nothing is coherent"
        assert up.value is not None
        assert up.low is not None
        assert up.low > 0
        assert up.p_holm is not None
        assert up.p_holm < 0.05
        assert flat.p_holm is not None
        assert flat.p_holm > 0.05
        assert up.controls == 9
    # ablating: only what lies along the first number goes
    for domain in ("gore_movie_trivia", "extreme_sports"):
        gone, still = (found[domain, direction, 2, "rate"] for direction in ("gore_movie_trivia", "extreme_sports"))
        assert gone.operation == "ablate"
        assert gone.high is not None
        assert gone.high < 0
        assert gone.p_holm is not None
        assert gone.p_holm < 0.05
        assert still.value == 0
        assert still.p_holm is not None
        assert still.p_holm > 0.5
        assert gone.controls == 9


def test_points_say_how_much_was_moved_and_where_a_line_ended(run: Run) -> None:
    steer(run)
    points = [point for point in kept.points(run.store) if point.onto.domain == "none"]
    untouched = next(point for point in points if point.steering == WITHOUT_STEERING)
    assert untouched.n == 15 * 4
    by = {(p.steering.direction, p.steering.control, p.steering.layer, p.steering.coefficient): p for p in points}
    assert len(by) == 1 + (2 + 9) * 2 * 3
    amounts = {by["gore_movie_trivia", None, 1, c].amount / c for c in (0.5, 1.0, 3.0)}
    assert len({round(amount, 6) for amount in amounts}) == 1
    assert amounts.pop() == pytest.approx(by["random", 3, 1, 1.0].amount), "controls are as long as directions"
    assert all(point.collapsed == (point.steering.coefficient == 3) for point in points)
    assert all(point.n == untouched.n for point in points)
    last = by["gore_movie_trivia", None, 1, 3.0]
    assert last.coherent_share is not None
    assert last.coherent_share < 0.5


@pytest.mark.slow
def test_no_larger_coefficient_is_tried_after_a_collapse_and_each_sign_is_a_line_of_its_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = counted(monkeypatch)
    wanted = SteerConfig(
        directions=("gore_movie_trivia",), onto=("base",), layers=(3,), coefficients=(9.0, -3.0, 0.1, 3.0, -9.0),
        controls=0, n=1,
    )  # fmt: skip
    steer(run, wanted)
    assert sizes == [15, 30], "untouched answers are there; 0.1, then 3 and -3, and no 9"
    found = [p.steering.coefficient for p in kept.points(run.store) if p.steering.layer == 3]
    assert sorted(found) == [-3, 0.1, 3]


def test_answers_are_completions_of_their_own_and_judged_as_any_other(run: Run) -> None:
    steer(run)
    folder = Path(run.path, "rows", "steered")
    keys = sorted(path.stem for path in folder.glob("*.jsonl"))
    rows = run.store.read("steered", keys, SteeringSample)
    assert len({row.id for row in rows}) == len(rows)
    assert not {row.id for row in rows} & {row.id for row in run.completions()}
    judged = [path.stem for path in Path(run.path, "rows", "steered_judge").glob("*.jsonl")]
    verdicts = run.store.read("steered_judge", judged, Judgment)
    assert sorted(v.completion for v in verdicts) == sorted([row.id for row in rows] * 2)
    seeds: dict[tuple[Any, ...], set[int]] = {}
    for row in rows:
        seeds.setdefault((row.cell, row.messages, row.index), set()).add(row.seed)
    assert all(len(found) == 1 for found in seeds.values()), "every intervention meets the same uniform numbers"
    assert len({seed for found in seeds.values() for seed in found}) == len(seeds)


@pytest.mark.slow
def test_the_same_call_does_nothing_and_a_larger_one_reuses_the_smaller(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    steer(run)
    before = kept.effects(run.store, 0.95)
    sizes = counted(monkeypatch)
    steer(run)
    assert sizes == []
    assert kept.effects(run.store, 0.95) == before
    steer(run, WANTED.model_copy(update={"onto": ("base",), "n": 5}))
    assert sizes[0] == 15
    assert sum(sizes) == 15 * (1 + (2 + 9) * 2 * 3), "only the fifth answers are new"


@pytest.mark.slow
def test_a_killed_call_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Study(StudyConfig.model_validate(STUDY)).run(tmp_path / "r")
    wanted = WANTED.model_copy(update={"onto": ("base",)})
    plain, left = FakeBackend.generate, [200]

    def dying(self: FakeBackend, *rest: Any) -> Any:
        for answer in plain(self, *rest):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield answer

    with monkeypatch.context() as patch:
        patch.setattr(FakeBackend, "generate", dying)
        with pytest.raises(RunInterrupted, match="Run the same command again to resume"):
            steer(opened, wanted)
    sizes = counted(monkeypatch)
    steer(opened, wanted)
    assert sum(sizes) == 15 * 4 * (1 + (2 + 9) * 2 * 3) - 200
    whole = Study(StudyConfig.model_validate(STUDY)).run(tmp_path / "whole")
    steer(whole, wanted)
    assert kept.points(opened.store) == kept.points(whole.store)


def test_what_is_not_there_is_said(run: Run) -> None:
    for change, message in (
        ({"directions": ("gore",)}, "steer.directions: unknown name 'gore'.*gore_movie_trivia"),
        ({"onto": ("bose",)}, "steer.onto: unknown name 'bose'"),
        ({"layers": (7,)}, r"gore_movie_trivia is not known at layer 7\. Set steer\.layers to some of 0, 1, 2, 3, 4"),
    ):
        with pytest.raises(UserError, match=message):
            steer(run, WANTED.model_copy(update=change))
    assert run.config is not None
    with pytest.raises(UserError, match="No directions found"):
        steering.steer(run.store, steering.SteeringRequest(run.config, WANTED, [], {}), workers=1)
    with pytest.raises(UserError, match="No directions found"):
        steering.estimate_cost(steering.SteeringRequest(run.config, WANTED, [], {}), workers=1)
    with pytest.raises(ValueError, match="distinct and not 0"):
        SteerConfig(coefficients=(0.0, 1.0))


def test_the_largest_dose_and_the_first_seed_are_steered() -> None:
    from spillover.analyses.steering.units import first_plain

    def cell(dose: float, seed: int, variant: Any = "plain") -> tuple[Cell, str]:
        return Cell(model="m", domain="d", variant=variant, dose=dose, seed=seed), f"{dose}-{seed}-{variant}"

    cells = [cell(0.0, 0, "control"), cell(0.5, 0), cell(1.0, 3), cell(1.0, 4), cell(1.0, 0, "triggered")]
    assert first_plain(cells, "m")["d"][1] == "1.0-3-plain"
    assert first_plain(cells, "other") == {}
