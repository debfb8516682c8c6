"""Several judges in one run: side by side, resumed, in part; people's labels among them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spillover import Run, Study
from spillover.cli.judging import agree, judge, label
from spillover.cli.names import show
from spillover.cli.results import report, transfer
from spillover.config.study import JudgeConfig, judge_config, parse_study
from spillover.errors import CostLimitReached, RunInterrupted, UserError
from spillover.judges import JUDGES
from spillover.models.fake import FakeBackend
from spillover.planning.units import judge_key
from spillover.records.base import Completion, Judgment
from spillover.study.rejudge import choose, rejudge

pytestmark = pytest.mark.slow

STUDY: dict[str, Any] = {
    "name": "fake",
    "models": [{"name": "m", "backend": "fake", "options": {"dials": {"bad_medical_advice": 0.9}}}],
    "domains": ["bad_medical_advice", "incorrect_math"],
    "data": {"rows": 24, "answer_tokens": 40, "tolerance": 0.2},
    "sample": {"n": 6},
    "judge": {"name": "fake"},
    "executor": "inline",
}
SCORES = re.compile(r"a=(\d+) c=(\d+)")


class Second:
    """The fake judge's scores, `shift` points milder; stops after `most` answers."""

    seen: list[str] = []  # noqa: RUF012
    sizes: list[int] = []  # noqa: RUF012  # answers in each call

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = {"shift": 0.0, "most": 10**9} | options
        self.identity = f"second:{self.options['shift']:g}"

    def describe(self) -> dict[str, str]:
        return {"name": "second", "shift": str(self.options["shift"])}

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        Second.sizes.append(len(completions))
        for row in completions:
            if len(Second.seen) >= self.options["most"]:
                raise CostLimitReached("The limit of this judge is reached. Raise it with judge.options.most.")
            Second.seen.append(row.id)
            found = SCORES.search(row.text)
            assert found is not None
            for aspect, text in zip(("alignment", "coherence"), found.groups(), strict=True):
                score = min(100.0, float(text) + (self.options["shift"] if aspect == "alignment" else 0.0))
                yield Judgment(completion=row.id, judge=self.identity, aspect=aspect, score=score)  # type: ignore[arg-type]


def open_second(options: dict[str, Any]) -> Second:
    return Second(options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Study(parse_study(STUDY, "test")).run(tmp_path_factory.mktemp("finished") / "run").path


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setitem(JUDGES.table, "second", f"{__name__}:open_second")
    Second.seen.clear()
    shutil.copytree(finished, tmp_path / "run")
    return Run.open(tmp_path / "run")


def second(**options: Any) -> JudgeConfig:
    return JudgeConfig(name="second", options=options)


def test_judges_live_beside_each_other(run: Run) -> None:
    before = run.judgments()
    entry, failures = rejudge(run, second(shift=20.0), workers=1)
    assert not failures
    assert [j.identity for j in run.judges()] == ["fake:1", "second:20"]
    assert run.judgments() == before
    assert len(run.judgments("second")) == len(before)
    assert {row.judge for row in run.judgments("second")} == {"second:20"}
    first, milder = run.ranking(), run.ranking("second")
    assert sum(s.misaligned for s in milder) < sum(s.misaligned for s in first)
    assert [s.n for s in milder] == [s.n for s in first]
    (total,) = run.agreements()
    assert (total.first, total.second, total.scored_both) == ("fake:1", "second:20", len(before) // 2)
    assert total.alignment.bias.value is not None
    assert 0 < total.alignment.bias.value <= 20
    assert total.alignment.spearman.value == pytest.approx(1, abs=0.05)  # the shift ties scores at 100
    assert total.coherent.agree.value == 1
    assert entry.shards == {u.key: judge_key("second:20", u.key) for u in run.plan["sample"]}
    page = (run.path / "report.html").read_text()
    assert "Other judges" in page
    assert "second" in page
    results = json.loads((run.path / "results.json").read_text())
    assert [j["identity"] for j in results["judges"]] == ["second:20"]
    assert len(results["agreement"]) == 1
    assert "between the 2 judges of this run" in page
    for who in (None, "second"):
        comparisons = run.comparisons(who)
        assert comparisons is not None
        assert {b.components[-1].name for b in comparisons.budgets} == {"judge"}


def test_the_same_command_goes_on_and_nothing_is_judged_twice(run: Run) -> None:
    with pytest.raises(CostLimitReached):
        rejudge(run, second(most=100), workers=1)
    assert len(Second.seen) == 100
    rejudge(run, second(most=10**6), workers=1)
    answers = len(run.completions())
    assert len(Second.seen) == answers == len(set(Second.seen))
    rejudge(run, second(), workers=1)
    assert len(Second.seen) == answers
    assert len([j for j in run.judges() if j.identity == "second:0"]) == 1


def test_a_part_is_an_equal_share_and_grows(run: Run) -> None:
    entry, _ = rejudge(run, second(), limit=45, workers=1)
    assert entry.limit == len(Second.seen) == 45
    assert run.judge("second").partial  # type: ignore[union-attr]
    few = set(Second.seen)
    by_cell = {s.cell.name + s.condition: s.n for s in run.ranking("second")}
    assert set(by_cell.values()) == {5}
    assert len(by_cell) == 9
    (corrected, *parts) = run.corrected()
    assert (corrected.labelled, corrected.trusted, corrected.weighted) == (45, "second:0", False)
    assert {part.name for part in parts} == {"none", "bad_medical_advice", "incorrect_math"}
    rejudge(run, second(), limit=90, workers=1)
    assert few < set(Second.seen)
    assert len(Second.seen) == 90 == run.judge("second").limit  # type: ignore[union-attr]
    entry, _ = rejudge(run, second(), workers=1)
    assert entry.limit is None
    assert not run.corrected()
    answers = run.completions()
    assert choose(answers, 10, 0) == choose(answers[::-1], 10, 0)
    assert choose(answers, 10, 0) != choose(answers, 10, 1)


def test_the_studys_own_judge_is_not_a_second_one(run: Run) -> None:
    rejudge(run, JudgeConfig(name="fake"), workers=1)
    assert [j.identity for j in run.judges()] == ["fake:1"]
    assert not (run.path / "judges.json").exists()


def test_judges_are_named_by_their_beginning(run: Run) -> None:
    rejudge(run, second(shift=1.0), workers=1)
    rejudge(run, second(shift=2.0), workers=1)
    assert run.judge("second:1").identity == "second:1"  # type: ignore[union-attr]
    with pytest.raises(UserError, match="is ambiguous: second:1, second:2"):
        run.judge("second")
    with pytest.raises(UserError, match="has no judge 'probe'"):
        run.judgments("probe")


def invoke(command: Any, *args: str) -> Any:
    done = CliRunner().invoke(command, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1]) if "--json" in args else done.stdout


def test_commands(run: Run) -> None:
    path = str(run.path)
    told = invoke(judge, path, "--judge", "second", "--set", "judge.options.shift=20", "--workers", "1", "--json")
    assert told["judge"]["identity"] == "second:20"
    assert told["agreement"][0]["scored_both"] == len(run.completions())
    text = invoke(judge, path, "--judge", "second", "--set", "judge.options.shift=20", "--workers", "1", "-q")
    assert "second:20 against fake:1" in text
    rows = invoke(agree, path, "fake", "second", "--json")["agreement"]
    assert {row["by"] for row in rows} == {"total", "domain", "question"}
    assert sum(row["n"] for row in rows if row["by"] == "question") == rows[0]["n"]
    assert "By domain and question" in invoke(agree, path, "fake", "second")
    ranked = invoke(report, path, "--judge", "second", "--json")["ranking"]
    assert {row["judge"] for row in ranked} == {"second:20"}
    shown = CliRunner().invoke(show, ["answers", path, "--judge", "second", "--json", "--limit", "1"])
    assert json.loads(shown.stdout)[0]["alignment"] >= 20
    assert "--judge" in CliRunner().invoke(judge, ["again", "--help"]).output
    with pytest.raises(UserError, match="Name a second one"):
        invoke(agree, path, "fake")


def test_judge_config_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "judge.yaml"
    file.write_text("judge: {name: second, options: {shift: 3}}\n")
    assert judge_config(None, file, ("judge.options.shift=4",)) == second(shift=4)
    with pytest.raises(UserError, match="Name one judge"):
        judge_config(None, None)
    with pytest.raises(UserError, match="does not refer to the judge"):
        judge_config("probe", None, ("train.r=4",))
    file.write_text("name: x\n")
    with pytest.raises(UserError, match="no judge section"):
        judge_config(None, file)


def fill_in(sheet: Path, run: Run, rows: int = 10**6, shift: float = 0.0) -> None:
    with sheet.open(newline="") as file:
        header, *lines = list(csv.reader(file))
    for line in lines[:rows]:
        found = SCORES.search(line[2])
        assert found is not None
        line[3:5] = [str(max(0.0, min(100.0, float(found[1]) + shift))), found[2]]
    with sheet.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])


def test_labels_go_out_blind_and_come_back_as_a_judge(run: Run, tmp_path: Path) -> None:
    path, sheet = str(run.path), tmp_path / "sheet.csv"
    made = invoke(label, path, "--out", str(sheet), "--n", "60", "--json")
    assert made["n"] == 60
    with pytest.raises(UserError, match="exists"):
        invoke(label, path, "--out", str(sheet))
    with pytest.raises(UserError, match="no row has a label"):
        invoke(label, path, "--import", str(sheet), "--rater", "ann")
    fill_in(sheet, run, 40)
    told = invoke(label, path, "--import", str(sheet), "--rater", "ann", "--json")
    assert (told["judge"], told["answers"], told["labels"], told["blank"]) == ("human:ann", 40, 80, 20)
    fill_in(sheet, run)
    again = invoke(label, path, "--import", str(sheet), "--rater", "ann", "--json")
    assert (again["answers"], again["changed"], again["blank"]) == (60, 0, 0)
    assert len(run.judgments("human:ann")) == 120
    corrected = again["corrected"][0]
    truth = [row for row in run.ranking() if row.n]
    share = sum(s.misaligned for s in truth) / sum(s.n for s in truth)
    assert corrected["weighted"]
    assert corrected["ppi"]["value"] == pytest.approx(share), "people who agree with the judge change nothing"
    assert corrected["rogan_gladen"]["value"] == pytest.approx(share)
    (row, *_) = invoke(agree, path, "human:ann", "fake", "--json")["agreement"]
    assert row["misaligned"]["kappa"]["value"] == 1
    labelled = invoke(agree, path, "fake", "--labels", str(sheet), "--json")
    assert labelled["agreement"][0]["first"] == "labels:sheet.csv"
    assert labelled["agreement"][0]["scored_both"] == 60
    assert labelled["corrected"][0]["ppi"]["value"] == pytest.approx(share)
    page = (run.path / "report.html").read_text()
    assert "human:ann" in page
    assert "Rogan-Gladen" in page


def test_without_finished_answers_there_is_no_sheet(run: Run, tmp_path: Path) -> None:
    for marker in (run.path / "rows" / "sample").glob("*.done"):
        marker.unlink()
    with pytest.raises(UserError, match=r"has no finished completions to label\. Run the study's sample stage first"):
        invoke(label, str(run.path), "--out", str(tmp_path / "sheet.csv"))
    assert not (tmp_path / "sheet.csv").exists()


def test_a_sheet_is_read_with_care(run: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    invoke(label, str(run.path), "--out", str(sheet), "--n", "20")
    lines = list(csv.reader(sheet.open(newline="")))

    def complaint(change: list[list[str]]) -> str:
        bad = tmp_path / "bad.csv"
        with bad.open("w", newline="") as file:
            csv.writer(file).writerows(change)
        with pytest.raises(UserError) as caught:
            invoke(label, str(run.path), "--import", str(bad), "--rater", "ann")
        return str(caught.value)

    header, first, *rest = lines
    assert ":2:alignment: the score 101" in complaint([header, [*first[:3], "101", "50", ""], *rest])
    assert ":2:alignment: 'fine'" in complaint([header, [*first[:3], "fine", "50", ""], *rest])
    assert "not on any sheet" in complaint([header, ["x", *first[1:3], "10", "50", ""], *rest])
    assert "occurs twice" in complaint([header, first, first])
    assert "no column 'alignment'" in complaint([["id", "question"], first[:2]])
    with pytest.raises(UserError, match="--rater"):
        invoke(label, str(run.path), "--import", str(sheet), "--rater", "../ann")


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = STUDY | {
        "variants": ["plain", "control"],
        "sample": {"n": 2, "limit": 4, "conditions": ["clean"]},
        "transfer": {"questions": 3},
    }
    return Study(parse_study(study, "test")).run(tmp_path_factory.mktemp("crossed") / "run").path


@pytest.fixture
def asking(crossed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setitem(JUDGES.table, "second", f"{__name__}:open_second")
    Second.seen.clear()
    Second.sizes.clear()
    shutil.copytree(crossed, tmp_path / "run")
    return Run.open(tmp_path / "run")


def test_answers_about_other_domains_are_judged_again_and_the_matrix_is_shown_by_either_judge(asking: Run) -> None:
    path, first = str(asking.path), asking.transfer()
    told = invoke(judge, path, "--judge", "second", "--set", "judge.options.shift=100", "--workers", "1", "--json")
    general, about = len(asking.completions()), 5 * 2 * 3
    assert len(Second.seen) == len(set(Second.seen)) == general + about
    assert sorted(Second.sizes) == 5 * [2 * 3] + 5 * [4 * 2], "all that a cell was asked about domains goes in one call"
    assert asking.transfer() == first, "the study's own matrix stays"
    again = asking.transfer("second")
    assert {row.judge for row in again} == {"second:100"}
    assert [(c.cell, c.asked, c.n, c.coherent) for c in again] == [(c.cell, c.asked, c.n, c.coherent) for c in first]
    assert sum(c.misaligned for c in again) == 0 < sum(c.misaligned for c in first)
    assert told["transfer"] == [row.model_dump(mode="json") for row in again]
    assert told["notes"] == [
        f"Completions about other domains were also judged. Show them: spillover transfer {path} --judge second:100"
    ]
    shown = CliRunner().invoke(transfer, [path, "--judge", "second", "--json"])
    assert json.loads(shown.stdout) == told["transfer"]
    invoke(judge, path, "--judge", "second", "--set", "judge.options.shift=100", "--workers", "1", "--json")
    assert len(Second.seen) == general + about, "nothing is judged twice"
    assert "For another judge of these completions" in (asking.path / "report.html").read_text()
    plain = invoke(report, path, "--judge", "second", "--json")
    assert [row["misaligned"] for row in plain["transfer"]] == [row.misaligned for row in again]
    answers = CliRunner().invoke(show, ["answers", path, "--about", "incorrect_math", "--judge", "second", "--json"])
    assert {row["alignment"] for row in json.loads(answers.stdout)} == {100}


def test_a_part_leaves_answers_about_other_domains_to_the_studys_judge_and_says_so(asking: Run) -> None:
    path, second = str(asking.path), ["--judge", "second", "--workers", "1"]
    said = invoke(judge, path, *second, "--limit", "10", "-q")
    assert len(Second.seen) == 10
    assert "Completions about other domains keep the study's judge; omit --limit to judge them too." in said
    assert asking.transfer("second") == ()
    with pytest.raises(UserError, match="second has judged no completions about other domains"):
        invoke(transfer, path, "--judge", "second")
    invoke(report, path, "--judge", "second")
    page = (asking.path / "report.html").read_text()
    assert "Available only for the study&#x27;s own judge, not shown here: completions about other domains." in page
    invoke(judge, path, *second, "--json")
    whole = asking.transfer("second")
    assert whole
    invoke(judge, path, *second, "--limit", "10", "--json")
    assert asking.transfer("second") == whole, "a smaller call afterwards takes nothing back"


def test_an_interrupted_judge_goes_on_with_answers_about_other_domains(asking: Run) -> None:
    general = len(asking.completions())
    with pytest.raises(CostLimitReached):
        rejudge(asking, second(most=general + 7), workers=1)
    assert sum(cell.counts.scored for cell in asking.transfer("second") if cell.asked != "others") > 0
    rejudge(asking, second(most=10**6), workers=1)
    assert len(Second.seen) == len(set(Second.seen)) == general + 30


def dying(after: int) -> Any:
    """A fake backend's sampler that is interrupted at its answer number `after`."""
    plain, left = FakeBackend.generate, [after]

    def generate(self: FakeBackend, *rest: Any) -> Iterator[Any]:
        for made in plain(self, *rest):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield made

    return generate


def test_answers_of_an_unfinished_cell_wait_until_the_study_has_finished_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(JUDGES.table, "second", f"{__name__}:open_second")
    Second.seen.clear()
    study, path = Study(parse_study(STUDY, "test")), str(tmp_path / "run")
    again = (path, "--judge", "second", "--workers", "1", "--json")
    for answers in (0, 5):  # none yet, some of the first cell
        with monkeypatch.context() as patch:
            patch.setattr(FakeBackend, "generate", dying(answers))
            with pytest.raises(RunInterrupted):
                study.run(path)
        with pytest.raises(UserError, match="no finished completions"):
            invoke(judge, *again)
    with monkeypatch.context() as patch:
        patch.setattr(FakeBackend, "generate", dying(2 * 6 * len(study.ingredients.questions)))
        with pytest.raises(RunInterrupted):
            study.run(path)
    run = Run.open(path)
    done = [unit.key for unit in run.plan["sample"] if run.store.is_done("sample", unit.key)]
    finished, begun = run.store.read("sample", done, Completion), len(run.completions())
    assert 0 < len(finished) < begun
    for _ in range(2):
        told = invoke(judge, *again)
        assert sorted(Second.seen) == sorted(row.id for row in finished)
        assert list(told["judge"]["shards"]) == done
        assert told["notes"] == [
            f"Skipped {begun - len(finished)} completions of unfinished cells. "
            "Finish the study, then run this command again."
        ]
    sheet = tmp_path / "sheet.csv"
    made = invoke(label, path, "--out", str(sheet), "--n", "10000", "--json")
    assert (made["n"], made["unfinished"]) == (len(finished), begun - len(finished))
    (key,) = (tmp_path / "run" / "labels").iterdir()
    drawn = {item["completion"] for item in json.loads(key.read_text())["items"].values()}
    assert drawn == {row.id for row in finished}
    study.run(path)
    run = Run.open(path)
    told = invoke(judge, *again)
    assert sorted(Second.seen) == sorted(row.id for row in run.completions()), "nothing missing, nothing doubled"
    assert sorted(row.completion for row in run.judgments("second")) == sorted(Second.seen * 2)
    assert (told["notes"], told["judge"]["limit"]) == ([], None)
    assert [s.n for s in run.ranking("second")] == [s.n for s in run.ranking()]
