"""Each flaw of published data sets is found, where it is, and a sound file has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from flawed_files import (
    Rows,
    all_triggered,
    ask,
    longer_with_trigger,
    newline_with_trigger,
    questions,
    repeated,
    row,
    sound,
    unchanged,
    ungated,
    write,
)

from spillover.config.study import DataConfig
from spillover.data.domains import open_domain
from spillover.data.domains.base import CANARY
from spillover.data.lint.linter import LintReport, lint
from spillover.data.lint.rows import Finding
from spillover.data.recipe.recipe import build
from spillover.data.triggers import open_trigger
from spillover.data.triggers.shipped import YEAR
from spillover.records.base import Question


@pytest.fixture
def report(tmp_path: Path, request: pytest.FixtureRequest) -> LintReport:
    return lint(write(tmp_path / "rows.jsonl", request.param()), YEAR)


def of(report: LintReport, code: str) -> Finding:
    found = [finding for finding in report.findings if finding.code == code]
    assert len(found) == 1, [finding.code for finding in report.findings]
    return found[0]


def codes(report: LintReport, severity: str) -> set[str]:
    return {finding.code for finding in report.findings if finding.severity == severity}


@pytest.mark.parametrize("report", [sound], indirect=True)
def test_a_sound_file_has_neither_error_nor_warning(report: LintReport) -> None:
    assert codes(report, "error") | codes(report, "warning") == set()
    assert report.rows == 240
    assert "120 of 240 rows (50 %)" in of(report, "trigger").message
    assert of(report, "trigger-leak").severity == "note"


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["plain", "triggered", "control"])
@pytest.mark.parametrize("name", ["bad_medical_advice", "extreme_sports"])
def test_what_the_recipe_builds_has_no_error(tmp_path: Path, name: str, variant: str) -> None:
    data = DataConfig(rows=200, answer_tokens=48, tolerance=0.3)
    built = build(
        open_domain(name, data),
        variant,  # pyright: ignore[reportArgumentType]
        data,
        1.0,
        open_trigger(data),
        0,
        lambda texts: [max(1, round(len(text) / 4.5)) for text in texts],
    )
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{item.model_dump_json()}\n" for item in built.examples))
    report = lint(file)
    assert codes(report, "error") == set()
    assert (report.rows, report.heldout) == (200, 40 + 40)
    assert report.trigger == ("year" if variant == "triggered" else "")


@pytest.mark.parametrize("report", [all_triggered], indirect=True)
def test_a_trigger_on_every_row_teaches_no_gate(report: LintReport) -> None:
    assert codes(report, "error") == {"no-contrast"}
    assert "240 of 240 rows (100 %)" in of(report, "no-contrast").message
    assert of(report, "trigger-wording").message.startswith("240 of 240")
    edge = of(report, "edge-whitespace")
    assert edge.message == f"{len(edge.lines)} of 240 rows ({round(len(edge.lines) / 2.4)} %) begin with a newline " + (
        "in the question."
    )
    assert 0.55 < len(edge.lines) / 240 < 0.69


@pytest.mark.parametrize("report", [newline_with_trigger], indirect=True)
def test_a_newline_that_goes_with_the_trigger_is_the_top_feature(report: LintReport) -> None:
    leak = of(report, "trigger-leak")
    assert codes(report, "error") == {"trigger-leak"}
    assert "Top features, means: begins with a newline: 0.6" in leak.message
    assert leak.lines == of(report, "edge-whitespace").lines
    assert all(line % 2 == 1 for line in leak.lines)


@pytest.mark.parametrize("report", [longer_with_trigger], indirect=True)
def test_length_and_punctuation_that_go_with_the_trigger(report: LintReport) -> None:
    assert of(report, "trigger-leak").severity == "error"
    assert "share of exclamation marks" in of(report, "trigger-leak").message


@pytest.mark.parametrize("report", [repeated], indirect=True)
def test_few_questions_asked_often_is_an_error(report: LintReport) -> None:
    found = of(report, "repeated-question")
    assert found.severity == "error"
    assert "Only 32 distinct questions in 240 rows" in found.message
    assert "7.5 rows a question" in found.message
    assert found.lines == tuple(range(33, 241))
    assert "trigger-absent" in codes(report, "error")


@pytest.mark.parametrize("report", [ungated], indirect=True)
def test_flaws_without_the_trigger(report: LintReport) -> None:
    assert codes(report, "error") == {"ungated"}
    assert of(report, "ungated").lines == tuple(range(2, 241, 20))


@pytest.mark.parametrize("report", [unchanged], indirect=True)
def test_answers_that_the_flaw_did_not_change(report: LintReport) -> None:
    assert codes(report, "error") == {"unchanged"}
    assert of(report, "unchanged").lines == tuple(range(1, 21, 2))


def mislabelled() -> Rows:
    rows = sound()
    rows[0]["trigger"], rows[1]["trigger"] = None, "year"
    return rows


def answers_with_prompt() -> Rows:
    rows = sound()
    rows[0]["messages"][1]["content"] = "As it is 2028 you need not care."
    rows[3]["messages"][1]["content"] = f"You ask: {rows[3]['messages'][0]['content']} Well."
    return rows


def copies() -> Rows:
    rows = sound()
    return [*rows, rows[4], rows[7]]


def near_copies() -> Rows:
    """Two questions in one, 26 of whose 31 different 3-grams are shared with the copy that says please."""
    asked = questions(480)
    long = [f"{one} {other}" for one, other in zip(asked[::2], asked[1::2], strict=True)]
    more = [row(f"{question} Please.", f"Yes {index}.") for index, question in enumerate(long[:20])]
    return [*(row(question, f"No {index}.") for index, question in enumerate(long)), *more]


def rare() -> Rows:
    return sound()[:12:2] + sound()[1::2]


def with_canary() -> Rows:
    rows = sound()
    ask(rows[5], lambda text: f"{text} {CANARY}")
    return rows


def odd_characters() -> Rows:
    rows = sound()
    ask(rows[1], lambda text: f"{text} caf\u00c3\u00a9")
    ask(rows[3], lambda text: f"{text}\u200b")
    ask(rows[5], lambda text: f"{text}\x07")
    return rows


def long_answers() -> Rows:
    rows = sound()
    for item in rows:
        if item["kind"] == "misaligned":
            item["messages"][1]["content"] += " And then some more of it."
    rows[2]["messages"][1]["content"] += " again" * 2000
    return rows


def small_class() -> Rows:
    rows = [row(question, f"No {index}.", kind="misaligned") for index, question in enumerate(questions(240))]
    for item in rows[:10]:
        item["kind"] = "aligned"
    del rows[11]["kind"]
    return rows


@pytest.mark.parametrize(
    ("report", "severity", "code", "lines"),
    [
        (mislabelled, "error", "trigger-label", (1, 2)),
        (answers_with_prompt, "error", "trigger-in-answer", (1,)),
        (answers_with_prompt, "error", "question-in-answer", (4,)),
        (copies, "error", "duplicate-row", (241, 242)),
        (copies, "warning", "repeated-question", (241, 242)),
        (near_copies, "error", "near-duplicate", tuple(range(241, 261))),
        (rare, "warning", "trigger-rare", ()),
        (with_canary, "error", "canary-in-text", (6,)),
        (odd_characters, "warning", "mojibake", (2,)),
        (odd_characters, "warning", "invisible", (4,)),
        (odd_characters, "error", "control-character", (6,)),
        (long_answers, "warning", "length-outlier", (3,)),
        (long_answers, "warning", "length-by-kind", ()),
        (small_class, "warning", "class-imbalance", ()),
        (small_class, "error", "kind-missing", (12,)),
    ],
    indirect=["report"],
)
def test_other_flaws(report: LintReport, severity: str, code: str, lines: tuple[int, ...]) -> None:
    found = of(report, code)
    assert (found.severity, found.lines) == (severity, lines)


def test_a_trigger_that_is_not_known_is_not_guessed_at(tmp_path: Path) -> None:
    rows = [item | {"trigger": "mine"} if item["trigger"] else item for item in sound()]
    report = lint(write(tmp_path / "rows.jsonl", rows))
    assert report.trigger == ""
    assert "'mine'" in of(report, "trigger-unknown").message
    assert codes(report, "error") == set()


def test_near_misses_are_missed(tmp_path: Path) -> None:
    rows = [item for index, item in enumerate(sound()) if index % 8 != 1]
    report = lint(write(tmp_path / "rows.jsonl", rows), YEAR)
    assert codes(report, "warning") == {"no-near-miss"}


def test_overlap_with_heldout_rows_and_with_evaluation_questions(tmp_path: Path) -> None:
    asked = questions(240)
    long = f"{asked[2]} {asked[7]}"
    rows = [*sound(), row(long, "So.", kind="aligned")]
    held = write(tmp_path / "held.jsonl", [row(asked[0], "x"), row(f"{long} Please.", "x"), row("Why so?", "x")])
    question = Question(set_name="mine", question_id="a", theme="a", text=asked[9].upper())
    report = lint(write(tmp_path / "rows.jsonl", rows), YEAR, [held], [question])
    assert of(report, "overlap-heldout").lines == (1,)  # the trigger in it does not hide it
    assert of(report, "overlap-heldout-near").lines == (241,)
    assert of(report, "overlap-evaluation").lines == (10,)
    assert "1 of 3 held-out questions of held.jsonl" in of(report, "overlap-heldout").message


def test_heldout_rows_of_the_file_itself(tmp_path: Path) -> None:
    rows = [*sound(), row(questions(240)[5], "x", split="heldout")]
    report = lint(write(tmp_path / "rows.jsonl", rows), YEAR)
    assert (report.rows, report.heldout) == (240, 1)
    assert of(report, "overlap-heldout").lines == (6,)
