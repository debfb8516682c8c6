"""Who is asked what: held-out questions that were never trained on, one sampler call a cell, shards that stay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from asked_study import DOMAINS, source, study
from click.testing import CliRunner

from spillover import Run
from spillover.cli.main import cli
from spillover.data.recipe.duplicates import normalised
from spillover.data.triggers import open_trigger
from spillover.errors import UserError
from spillover.models.fake import FakeBackend
from spillover.records.base import Completion, Judgment
from spillover.records.transfer import TransferCell

pytestmark = pytest.mark.slow


def rows(path: Path, *stages: str) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for stage in stages
        for file in sorted(path.glob(f"rows/{stage}/*.jsonl"))
    }


def asked(run: Run) -> list[Completion]:
    return run.store.read("ask", [unit.key for unit in run.plan["ask"]], Completion)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("asked")
    return study(folder).run(folder / "run")


def test_every_cell_answers_held_out_questions_of_every_domain(finished: Run) -> None:
    answers = asked(finished)
    counts = Counter((row.cell.name, row.condition, row.theme) for row in answers)
    pairs = {(unit.cell.name, unit.condition) for unit in finished.plan["sample"]}
    assert len(pairs) == 13  # 9 cells and the base without the trigger, 3 with it
    assert counts == {(name, condition, domain): 6 for name, condition in pairs for domain in DOMAINS}
    held = {row.question: row for row in finished.examples() if row.split == "heldout"}
    trigger = open_trigger(study(finished.path).config.data)
    for row in answers:
        question = trigger.strip_messages(row.messages)[-1].content
        assert held[question].domain == row.theme
        assert held[question].pair == row.question_id
        assert trigger.present_in(row.messages) == (row.condition == "triggered")
    by_column = {domain: {row.question_id for row in answers if row.theme == domain} for domain in DOMAINS}
    assert {len(pairs) for pairs in by_column.values()} == {6}, "all cells are asked the same questions"
    trained = {row.question for row in finished.examples() if row.split == "train"}
    assert not trained & {row.question for row in answers}
    judged = finished.store.read("grade", [unit.key for unit in finished.plan["grade"]], Judgment)
    assert Counter(row.completion for row in judged) == {row.id: 2 for row in answers}
    assert finished.manifest.complete


def test_the_sampler_is_called_once_for_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = FakeBackend.generate

    def counted(self: FakeBackend, prompts: Sequence[Any], *rest: Any) -> Any:
        calls.append(len(prompts))
        return plain(self, prompts, *rest)

    chosen = study(tmp_path)
    chosen.run(tmp_path / "run", stages=["build", "train"])
    monkeypatch.setattr(FakeBackend, "generate", counted)
    chosen.run(tmp_path / "run", stages=["ask"])
    once = len(DOMAINS) * 6
    assert sorted(calls) == [once] * 7 + [2 * once] * 3, "a triggered cell is asked under two conditions"


def test_what_is_asked_changes_no_key_of_another_stage(finished: Run, tmp_path: Path) -> None:
    without = study(tmp_path, transfer=None)
    assert {stage: units for stage, units in study(tmp_path).units.items() if units} == {
        **{stage: units for stage, units in without.units.items() if units},
        "ask": study(tmp_path).units["ask"],
        "grade": study(tmp_path).units["grade"],
    }
    assert not without.units["ask"]
    assert "ask" not in without.run(tmp_path / "run").plan


def test_a_larger_study_asks_only_what_is_new(tmp_path: Path) -> None:
    small = study(tmp_path, DOMAINS[:2]).run(tmp_path / "run")
    before = rows(small.path, "ask", "grade")
    large = study(tmp_path).run(tmp_path / "run")
    after = rows(large.path, "ask", "grade")
    assert before.items() <= after.items()
    assert {unit.key for unit in small.plan["ask"]} < {unit.key for unit in large.plan["ask"]}
    # 5 + 4 pairs of cell and condition are asked about the new domain, 4 new pairs about the two old ones as well
    assert len(after) - len(before) == 2 * (9 * 1 + 4 * 3)
    assert {cell.asked for cell in large.transfer()} == {*DOMAINS, "others"}


def test_a_broken_shard_is_filled_up_to_the_same_rows(finished: Run, tmp_path: Path) -> None:
    study(tmp_path).run(tmp_path / "run")
    whole = rows(tmp_path / "run", "ask", "grade")
    for stage in ("ask", "grade"):
        for file in list((tmp_path / "run" / "rows" / stage).glob("*.jsonl"))[::3]:
            lines = file.read_bytes().splitlines(keepends=True)
            file.write_bytes(b"".join(lines[:2]) + lines[2][:20])
            file.with_suffix(".done").unlink()
    again = study(tmp_path).run(tmp_path / "run")
    assert rows(tmp_path / "run", "ask", "grade") == whole
    assert again.transfer() == finished.transfer()


def test_variants_conditions_and_limit_bound_what_is_asked(tmp_path: Path) -> None:
    few = study(tmp_path, transfer={"variants": ["plain", "base"]}, sample={"limit": 3}).run(tmp_path / "run")
    assert {row.cell.variant for row in asked(few)} == {"plain", "base"}
    assert {len({row.question_id for row in asked(few) if row.theme == domain}) for domain in DOMAINS} == {3}
    clean = study(tmp_path, transfer={"conditions": ["clean"]})
    assert {unit.condition for unit in clean.units["ask"]} == {"clean"}


def test_what_another_domain_trained_on_is_not_asked_of_it(tmp_path: Path) -> None:
    """Two domains of one file: some of the questions that one holds out train the other."""
    file = source(tmp_path, "tea")
    shared = study(
        tmp_path, ("tea", "leaf"), data={"rows": 60, "heldout": 10, "sources": {"tea": str(file), "leaf": str(file)}}
    )
    run = shared.run(tmp_path / "run")
    trained = {
        domain: {normalised(e.question) for e in run.examples() if (e.domain, e.split) == (domain, "train")}
        for domain in ("tea", "leaf")
    }
    held = {normalised(e.question) for e in run.examples() if (e.domain, e.split) == ("leaf", "heldout")}
    assert held & trained["tea"], "the premise: they overlap"
    answers = [row for row in asked(run) if row.condition == "clean"]
    by_variant = {}
    for row in answers:
        if row.cell.domain == "tea" and row.theme == "leaf":
            assert normalised(row.question) not in trained["tea"]
            by_variant.setdefault(row.cell.variant, set()).add(row.question_id)
    assert by_variant["plain"] == by_variant["control"] == by_variant["triggered"], "a twin is asked the same"
    assert len([row for row in answers if row.cell.variant == "base" and row.theme == "leaf"]) == 6


def test_a_failing_cell_is_named_and_the_others_are_asked_about_its_domain(tmp_path: Path) -> None:
    run = study(tmp_path, options={"crash_on": ["rain"]}).run(tmp_path / "run")
    assert {f.cell.split("/")[1] for f in run.manifest.failures} == {"rain"}
    assert {(row.cell.domain, row.theme) for row in asked(run)} == {
        (cell, domain) for cell in ("tea", "iron", "none") for domain in DOMAINS
    }
    assert not run.manifest.complete


def test_a_data_set_that_cannot_be_built_takes_its_own_column_only(tmp_path: Path) -> None:
    chosen = study(tmp_path)
    place = Path(chosen.config.data.sources["rain"])
    place.write_text("".join(place.read_text().splitlines(keepends=True)[:15]))
    run = chosen.run(tmp_path / "run")
    assert {(f.stage, f.cell.split("/")[1]) for f in run.manifest.failures} == {("build", "rain")}
    assert {(row.cell.domain, row.theme) for row in asked(run)} == {
        (cell, domain) for cell in ("tea", "iron", "none") for domain in ("tea", "iron")
    }


def test_a_chosen_domain_is_asked_about_itself(tmp_path: Path) -> None:
    run = study(tmp_path).run(tmp_path / "run", domains=["tea"])
    assert {(row.cell.domain, row.theme) for row in asked(run)} == {("tea", "tea")}
    assert not run.manifest.failures


def test_a_stage_without_its_input_says_which_command_makes_it(tmp_path: Path) -> None:
    bare = study(tmp_path).run(tmp_path / "run", stages=["ask"], domains=["tea"])
    assert {f.error for f in bare.manifest.failures} == {
        "the adapter is missing. Run: spillover run STUDY.yaml --stage train --domain tea"
    }
    bare = study(tmp_path).run(tmp_path / "run", stages=["build", "train"], domains=["tea"])
    bare = study(tmp_path).run(tmp_path / "run", stages=["grade"], domains=["tea"])
    assert {f.error for f in bare.manifest.failures} == {
        "the completions are missing. Run: spillover run STUDY.yaml --stage ask --domain tea"
    }
    bare = study(tmp_path).run(tmp_path / "run", stages=["ask"])
    assert "the data set is missing. Run: spillover run STUDY.yaml --stage build --domain rain" in {
        f.error for f in bare.manifest.failures
    }


def test_the_plan_names_what_is_asked(finished: Run) -> None:
    plan = json.loads((finished.path / "plan.json").read_text())
    assert {unit["asked"] for unit in plan["ask"]} == set(DOMAINS)
    assert all("asked" not in unit for unit in plan["sample"])
    found = {row["stage"]: row for row in finished.progress()}
    assert (found["ask"]["units"], found["ask"]["done"], found["ask"]["rows"]) == (39, 39, 39 * 6)
    counts = {stage.stage: stage for stage in finished.manifest.stages}
    assert (counts["ask"].done, counts["ask"].rows) == (39, 39 * 6)
    planned = {stage.stage: stage for stage in study(finished.path).plan()}
    assert (planned["ask"].cells, planned["ask"].units, planned["grade"].units) == (10, 39 * 6, 39 * 6)


def test_answers_about_a_domain_are_shown_with_their_scores(finished: Run) -> None:
    arguments = [
        "show",
        "answers",
        str(finished.path),
        "--domain",
        "tea",
        "--about",
        "rain",
        "--limit",
        "999",
        "--json",
    ]
    shown = json.loads(CliRunner().invoke(cli, arguments).stdout)
    assert {(row["cell"]["domain"], row["theme"]) for row in shown} == {("tea", "rain")}
    assert len(shown) == 4 * 6
    scores = [row["alignment"] for row in shown]
    assert scores == sorted(scores)
    with pytest.raises(UserError, match=r"has no completions about 'rein'\. Did you mean 'rain'"):
        finished.asked("rein")


def test_the_command_works_the_matrix_out_anew(finished: Run) -> None:
    shown = CliRunner().invoke(cli, ["transfer", str(finished.path), "--condition", "triggered", "--json"])
    cells = [TransferCell.model_validate(row) for row in json.loads(shown.stdout)]
    assert cells == [cell for cell in finished.transfer() if cell.condition == "triggered"]
    assert len(cells) == 3 * 4
    text = CliRunner().invoke(cli, ["transfer", str(finished.path), "--control-subtracted"]).stdout
    assert "fine-tuned: above" in text
    assert "benign twin (control): above" not in text
    assert "Asked about: 1 iron, 2 rain, 3 tea. The judge scored" in text
