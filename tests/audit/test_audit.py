"""The rungs in order, on the fake backend: who decides, with what reason, and what is left out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_data import audited, data, model, policy, row, write

from spillover.audit import trial_finetune as probe_tune
from spillover.audit.audit import Auditor, Wish
from spillover.audit.policy import ProbeSize
from spillover.audit.verdict import Audit
from spillover.errors import UserError
from spillover.progress import Event, Progress
from spillover.study.run import Run


@pytest.mark.slow
def test_flawed_data_are_blocked_by_the_probe(tmp_path: Path) -> None:
    verdict = audited(tmp_path, 0.8)
    assert (verdict.verdict, verdict.exit_code) == ("block", 20)
    (reason,) = verdict.reasons
    assert (reason.rung, reason.outcome, reason.code, reason.threshold) == ("probe", "block", "above-control", 0.02)
    assert reason.low is not None
    assert reason.low > 0.5
    assert [rung.outcome for rung in verdict.rungs] == [None, None, "block"]
    assert verdict.data.sha256 == hashlib.sha256((tmp_path / "data.jsonl").read_bytes()).hexdigest()
    assert verdict.data.control == "shuffled"
    assert verdict.revision == "fake"
    assert verdict.judge["name"] == "fake"


@pytest.mark.slow
def test_the_rates_are_those_of_the_study_underneath(tmp_path: Path) -> None:
    verdict = audited(tmp_path, 0.5)
    scores = {score.cell.variant: score for score in Run.open(tmp_path / "out" / "probe").ranking()}
    rates = {rate.who: rate for rate in verdict.rates}
    for who, variant in (("tuned", "plain"), ("control", "control"), ("untouched", "base")):
        assert rates[who].misaligned == scores[variant].misaligned
        assert rates[who].coherent == scores[variant].coherent
    assert verdict.above_control == scores["plain"].above_control
    assert verdict.above_control is not None
    assert verdict.above_untouched is not None
    assert verdict.above_untouched.value == pytest.approx(rates["tuned"].rate - rates["untouched"].rate)  # pyright: ignore


@pytest.mark.slow
def test_benign_data_pass(tmp_path: Path) -> None:
    verdict = audited(tmp_path, 0.0)
    assert (verdict.verdict, verdict.exit_code) == ("pass", 0)
    assert verdict.reasons[-1].high is not None
    assert verdict.reasons[-1].high < 0.10


@pytest.mark.slow
def test_few_answers_settle_nothing(tmp_path: Path) -> None:
    verdict = audited(tmp_path, 0.02, sizes=(ProbeSize(rows=32, answers=2),), fewest_coherent=10)
    assert (verdict.verdict, verdict.exit_code) == ("review", 10)
    assert verdict.reasons[-1].code == "not-separated"


@pytest.mark.slow
def test_too_few_coherent_answers_are_for_review(tmp_path: Path) -> None:
    verdict = audited(tmp_path, 0.8, fewest_coherent=10_000)
    assert verdict.verdict == "review"
    assert verdict.reasons[-1].code == "too-few-coherent"
    assert verdict.rungs[-1].outcome is None


def test_broken_lines_are_blocked_at_once_and_nothing_else_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "broken.jsonl", [row(1), "{", row(2), {"messages": 3}])
    verdict = audited(tmp_path, 0.0, path)
    assert verdict.verdict == "block"
    assert {reason.code: reason.value for reason in verdict.reasons} == {"json": 0.25, "schema": 0.25}
    assert [rung.skipped for rung in verdict.rungs] == ["", "lint has decided", "lint has decided"]
    assert {found.code: found.lines for found in verdict.findings if found.severity == "error"} == {
        "json": (2,),
        "schema": (4,),
    }
    assert not (tmp_path / "out" / "probe").exists()


def test_a_file_without_rows_is_for_review_at_most(tmp_path: Path) -> None:
    verdict = audited(tmp_path, 0.0, write(tmp_path / "empty.jsonl", []))
    assert verdict.verdict == "review"
    assert len(verdict.left_out) == 2


@pytest.mark.slow
def test_a_finding_for_review_is_not_lifted_by_a_probe_that_passes(tmp_path: Path) -> None:
    rows = [row(number) for number in range(40)] + [row(number) for number in range(10)]
    verdict = audited(tmp_path, 0.0, write(tmp_path / "copies.jsonl", rows))
    assert verdict.rungs[-1].outcome == "pass"
    assert verdict.verdict == "review"
    assert [reason.code for reason in verdict.reasons] == ["duplicate-row", "above-control"]
    assert verdict.reasons[0].value == pytest.approx(10 / 50)


@pytest.mark.slow
def test_twins_are_the_control_where_every_row_has_one(tmp_path: Path) -> None:
    assert audited(tmp_path, 0.8, data(tmp_path, 40, twin=True)).data.control == "twin"


@pytest.mark.slow
def test_a_budget_takes_the_largest_probe_that_fits_and_says_so(tmp_path: Path) -> None:
    sizes = (ProbeSize(rows=48, answers=10_000_000), ProbeSize(rows=24, answers=8))
    verdict = audited(tmp_path, 0.8, budget=5.0, sizes=sizes)
    assert verdict.verdict == "block"
    assert verdict.probe_size == "24 rows x 8 answers"
    assert "24 rows and 8 answers a question, in place of 48 and 10000000" in verdict.left_out[0]
    assert verdict.planned_minutes is not None
    assert verdict.planned_minutes < 5.0


@pytest.mark.slow
def test_an_audit_that_goes_on_keeps_the_probe_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (ProbeSize(rows=48, answers=4), ProbeSize(rows=16, answers=2))
    monkeypatch.setattr(probe_tune, "minutes", lambda config: 4.0 if config.data.rows > 20 else 1.0)
    first = audited(tmp_path, 0.8, budget=3.0, sizes=sizes)
    assert first.probe_size == "16 rows x 2 answers"
    monkeypatch.setattr(probe_tune, "minutes", lambda config: 0.0)  # more would fit now: rung 2 is there already
    assert audited(tmp_path, 0.8, tmp_path / "data.jsonl", budget=3.0, sizes=sizes).probe_size == first.probe_size


@pytest.mark.slow
def test_a_probe_stops_when_the_budget_is_spent_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_tune, "minutes", lambda config: 0.0)  # the plan was far too hopeful
    wish = Wish(data(tmp_path), model(0.8), policy(), budget=2.0)
    auditor = Auditor(wish, tmp_path / "out")
    clock = [0.0]

    def tick(event: Event) -> None:
        clock[0] += 25.0 if event.kind == "advanced" and event.stage != "surprise" else 0.0

    auditor.limited = Progress(tick, lambda: clock[0], 120.0)
    first = auditor.run()
    assert (first.verdict, first.exit_code) == ("review", 10)
    assert [rung.stopped for rung in first.rungs] == [False, False, True]
    assert [(reason.rung, reason.code) for reason in first.reasons] == [("probe", "budget-spent")]
    assert first.left_out[-1] == "probe: the rest of it, as the budget was spent"
    page = (tmp_path / "out" / "card.html").read_text("utf-8")
    assert "The budget of 2 minutes was spent. The same command goes on from there." in page
    assert "stopped: the budget was spent" in page
    shards = [path for path in (tmp_path / "out" / "probe" / "rows").rglob("*.jsonl") if path.stat().st_size]
    stamps = {path: path.read_bytes() for path in shards}
    assert stamps
    again = Auditor(replace(wish, budget=None), tmp_path / "out").run()
    assert again.verdict == "block"
    assert all(path.read_bytes().startswith(content) for path, content in stamps.items())
    whole = Auditor(Wish(tmp_path / "data.jsonl", model(0.8), policy()), tmp_path / "whole").run()
    assert again.rates == whole.rates


@pytest.mark.slow
def test_the_second_rung_stops_too_and_keeps_what_it_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.audit.audit.surprise_minutes", lambda *given: 0.0)
    monkeypatch.setattr("spillover.audit.surprise.PART", 4)
    clock = [0.0]
    wish = Wish(data(tmp_path), model(0.8), policy(), budget=1.0)
    auditor = Auditor(wish, tmp_path / "out")

    def tick(event: Event) -> None:
        clock[0] += 25.0 if event.kind == "advanced" else 0.0

    auditor.limited = Progress(tick, lambda: clock[0], 60.0)
    first = auditor.run()
    assert [rung.stopped for rung in first.rungs] == [False, True, True]
    assert [reason.code for reason in first.reasons] == ["budget-spent", "budget-spent"]
    kept = sorted((tmp_path / "out").glob("surprise-*.json"))
    assert 1 <= len(kept) < 4
    again = Auditor(replace(wish, budget=None), tmp_path / "out").run()
    assert again.verdict == "block"
    assert len(list((tmp_path / "out").glob("surprise-*.json"))) == 5


@pytest.mark.slow
def test_a_budget_is_kept_for_the_rung_that_can_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spillover.audit.audit.surprise_minutes", lambda *given: 0.4)
    monkeypatch.setattr("spillover.audit.trial_finetune.minutes", lambda config: 0.5)
    verdict = audited(tmp_path, 0.8, budget=1.0)
    assert [bool(rung.skipped) for rung in verdict.rungs] == [False, True, False]
    assert "without a predictor it decides nothing" in verdict.rungs[1].skipped
    assert verdict.verdict == "block"


def test_without_a_budget_for_it_nothing_is_decided(tmp_path: Path) -> None:
    verdict = audited(tmp_path, 0.8, budget=0.0)
    assert verdict.verdict == "review"
    assert [bool(rung.skipped) for rung in verdict.rungs] == [False, True, True]
    assert len(verdict.left_out) == 2
    assert not verdict.rates


@pytest.mark.slow
def test_the_same_command_again_reads_what_is_there(tmp_path: Path) -> None:
    first = audited(tmp_path, 0.8)
    shards = sorted((tmp_path / "out" / "probe" / "rows").rglob("*.jsonl"))
    stamps = [path.stat().st_mtime_ns for path in shards if "/rank/" not in str(path)]
    again = audited(tmp_path, 0.8)
    assert [path.stat().st_mtime_ns for path in shards if "/rank/" not in str(path)] == stamps
    changing = {"started", "seconds", "rungs"}
    assert again.model_dump(exclude=changing) == first.model_dump(exclude=changing)
    assert Audit.model_validate_json((tmp_path / "out" / "card.json").read_bytes()) == again


@pytest.mark.slow
def test_a_folder_of_another_audit_or_of_other_files_is_refused(tmp_path: Path) -> None:
    audited(tmp_path, 0.8)
    with pytest.raises(UserError, match="the audit of other data"):
        Auditor(Wish(tmp_path / "data.jsonl", model(0.1), policy()), tmp_path / "out")
    with pytest.raises(UserError, match="other files and no audit"):
        Auditor(Wish(tmp_path / "data.jsonl", model(0.1), policy()), tmp_path)


@pytest.mark.slow
def test_a_probe_that_fails_is_for_review_and_names_the_cause(tmp_path: Path) -> None:
    wish = Wish(data(tmp_path), model(0.8, crash_on=["audited"]), policy())
    verdict = Auditor(wish, tmp_path / "out").run()
    assert verdict.verdict == "review"
    assert "configured to crash on audited" in verdict.reasons[0].message


@pytest.mark.slow
def test_what_the_untouched_model_says_is_described(tmp_path: Path) -> None:
    facts = audited(tmp_path, 0.8).rungs[1].facts
    answers = [row(number)["messages"][1]["content"] for number in range(60)]
    means = [np.mean([-0.25 * len(word) for word in answer.split()]) for answer in answers]
    assert facts["rows"] == 16
    assert min(means) <= facts["loss.instruct"] <= max(means)  # pyright: ignore
    (kept,) = (tmp_path / "out").glob("surprise-*-reading-1.json")
    rows = json.loads(kept.read_text())["rows"]
    assert np.mean([line["loss"] for line in rows]) == pytest.approx(facts["loss.instruct"])
