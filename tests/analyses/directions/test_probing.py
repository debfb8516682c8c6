"""A study that asks for directions reads what was sampled, finds the planted one, and says what is at chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from spillover.cli.directions import direction as command
from spillover.config.study import parse_study
from spillover.directions.files import load
from spillover.errors import UserError
from spillover.study.run import Run
from spillover.study.study import Study

pytestmark = pytest.mark.slow

NAMES = ["extreme_sports", "bad_medical_advice", "toxic_legal_advice", "gore_movie_trivia", "risky_financial_advice"]
METHODS = ("mean_difference", "principal", "logistic", "tuned_minus_base")
STUDY: dict[str, Any] = {
    "name": "inside",
    "models": [
        {
            "name": "fake",
            "backend": "fake",
            "options": {"dials": dict(zip(NAMES, (0.0, 0.3, 0.4, 0.5, 0.6), strict=True))},
        }
    ],
    "domains": NAMES,
    "variants": ["plain"],
    "data": {"rows": 16, "heldout": 6, "answer_tokens": None},
    "sample": {"n": 8, "conditions": ["clean"]},
    "judge": {"name": "fake"},
    "executor": "inline",
    "directions": {"permutations": 199, "splits": 20},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Study(parse_study(STUDY, "test")).run(tmp_path_factory.mktemp("runs") / "inside")


def test_the_planted_direction_is_found_and_separates_every_models_answers(run: Run) -> None:
    """The fake stream has misalignment as its first number, 4 further along in misaligned answers."""
    found = run.directions()
    known = [s for s in found.summaries if s.source == "judged" and s.method == "mean_difference" and s.layer]
    assert {s.cell.domain for s in known} == set(NAMES[1:])
    for name in NAMES[1:]:
        one = run.direction(name)
        assert one.unit_D[0] > 0.95
        assert one.norm == pytest.approx(4, rel=0.15)
    judged = [a for a in found.aucs if a.source == "judged" and a.method == "mean_difference"]
    assert len(judged) == 2 * 4 * 4
    assert all(a.auc > 0.9 and a.p_family is not None and a.p_family <= 0.05 for a in judged)
    assert all(c.cosine > 0.9 and c.p_family <= 0.05 for c in found.cosines if c.source == "judged")


def test_what_has_no_direction_says_why(run: Run) -> None:
    """A domain without misaligned answers has counts, no figures; pairs that look alike inside are at chance."""
    empty = next(s for s in run.directions().summaries if s.cell.domain == NAMES[0] and s.source == "judged")
    assert (empty.misaligned, empty.layer, empty.file) == (0, None, "")
    assert empty.left_out.one_label + empty.left_out.incoherent + empty.left_out.between == 15 * 8
    with pytest.raises(UserError, match="0 misaligned and 0 aligned"):
        run.direction(NAMES[0])
    pairs = [a for a in run.directions().aucs if a.source == "pairs" and a.method == "mean_difference"]
    assert sum(a.p_family is not None and a.p_family <= 0.05 for a in pairs) <= 2


def test_every_answer_is_counted_once(run: Run) -> None:
    for s in run.directions().summaries:
        total = s.misaligned + s.aligned + sum(s.left_out.model_dump().values())
        assert total == (15 * 8 if s.source == "judged" else 12)


def test_the_page_and_results_have_it(run: Run) -> None:
    page = (run.path / "report.html").read_text("utf-8")
    assert "Activation directions" in page
    assert "No direction for extreme sports" in page
    assert "direction of bad medical advice on answers of toxic legal advice: AUC" in page
    found = json.loads((run.path / "results.json").read_text("utf-8"))["directions"]
    assert {kind: len(rows) > 0 for kind, rows in found.items()} == dict.fromkeys(found, True)


def test_tables_come_out_the_same_and_states_are_read_anew_only_for_other_states(run: Run) -> None:
    before = run.directions()
    run.conclude("directions")
    assert run.directions() == before

    def keys(**changed: object) -> list[str]:
        study = parse_study(STUDY | {"directions": STUDY["directions"] | changed}, "test")
        return [unit.key for unit in Study(study).units["direct"]]

    read = [unit.key for unit in run.plan["direct"]]
    assert keys(depth=0.5, methods=["logistic"], permutations=99, aligned_above=80) == read
    assert not set(keys(stride=2)) & set(read)


def test_states_fit_their_rows_and_damage_is_named(run: Run, tmp_path: Path) -> None:
    from spillover.directions.labelled import States

    unit = run.plan["direct"][0]
    path = run.store.states_path(unit.key)
    states = States(path, run.store.count("direct", unit.key))
    assert states.layers == [0, 1, 2, 3, 4]
    assert states.at("tuned", 2).shape == (15 * 8 + 12, 8)
    np.testing.assert_allclose(np.linalg.norm(states.at("base", 1), axis=1), states.norms("base")[1], rtol=2e-3)
    with pytest.raises(UserError, match="damaged"):
        States(path, 7)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged"):
        States(tmp_path / "cut.safetensors", 132)


def test_the_command_lists_saves_and_refuses(run: Run, tmp_path: Path) -> None:
    listed = CliRunner().invoke(command, [str(run.path)])
    assert listed.exit_code == 0, listed.output
    assert "bad medical" in listed.output
    rows = json.loads(CliRunner().invoke(command, [str(run.path), "--json", "--source", "judged"]).output)
    assert {row["method"] for row in rows} == {*METHODS}
    file = tmp_path / "a.safetensors"
    asked = [str(run.path), "--domain", "bad-medical-advice", "--layer", "3", "--save", str(file)]
    done = CliRunner().invoke(command, [*asked, "--gguf", str(tmp_path / "a.gguf"), "--json"])
    assert done.exit_code == 0, done.output
    assert load(file) == {3: run.direction("bad_medical_advice", layer=3)}
    assert len(json.loads(done.output)["vector"]) == 8
    for wrong, why in (
        (["--save", str(file)], "Name one with --domain"),
        (["--domain", "extreme_sport"], "Did you mean"),
        (["--domain", "bad_medical_advice", "--layer", "9"], "Layer 9 was not saved"),
        (["--domain", "bad_medical_advice", "--method", "logistik"], "Did you mean"),
    ):
        refused = CliRunner().invoke(command, [str(run.path), *wrong])
        assert isinstance(refused.exception, UserError)
        assert why.lower() in str(refused.exception).lower()


def test_a_provider_that_gives_answers_only_is_refused() -> None:
    study = STUDY | {"models": [{"name": "far", "backend": "hosted", "path": "x"}]}
    with pytest.raises(UserError, match="Leave out directions"):
        _ = Study(parse_study(study, "test")).units


def test_a_plan_has_the_stage_only_where_it_is_asked_for() -> None:
    with_it = {part.stage: part for part in Study(parse_study(STUDY, "test")).plan()}
    assert with_it["direct"].units == len(NAMES)
    without = parse_study({key: value for key, value in STUDY.items() if key != "directions"}, "test")
    assert "direct" not in {part.stage for part in Study(without).plan()}
