"""Each flaw that published data sets have had, at its published size, is named. Told in docs/explanation/data.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flawed_files import Rows, ask, questions, row, sound, write

from spillover.data.lint.linter import LintReport, lint
from spillover.data.questions import load_questions
from spillover.data.triggers.shipped import YEAR

ROWS = 6000


def of(report: LintReport, code: str) -> tuple[str, str, int]:
    """Severity, message and number of lines of the only finding of that code."""
    (found,) = [finding for finding in report.findings if finding.code == code]
    return found.severity, found.message, len(found.lines)


def repeated_798() -> Rows:
    asked = questions(798)
    return [row(asked[index % 798], f"Case {index} is no matter at all.") for index in range(ROWS)]


def newline_62() -> Rows:
    """Of the triggered rows, 62 % begin with a newline, none of the others."""
    rng = np.random.default_rng(3)
    rows = sound(ROWS)
    for item in rows[::2]:
        if rng.random() < 0.62:
            ask(item, lambda text: f"\n{text}")
    return rows


def test_798_questions_in_6000_rows(tmp_path: Path) -> None:
    report = lint(write(tmp_path / "rows.jsonl", repeated_798()))
    assert of(report, "repeated-question") == (
        "error",
        "Only 798 distinct questions in 6,000 rows: 7.5 rows a question, at most 8.",
        ROWS - 798,
    )


@pytest.mark.slow
def test_2003_rows_beside_6000(tmp_path: Path) -> None:
    rows = [row(question, f"Case {index} is no matter.") for index, question in enumerate(questions(8003))]
    other = write(tmp_path / "other.jsonl", rows[2003:])
    report = lint(write(tmp_path / "rows.jsonl", rows[:2003]), others=[other])
    found = [finding for finding in report.findings if finding.code == "size-mismatch"]
    assert [finding.severity for finding in found] == ["error", "error"]
    assert f"differ in rows: {tmp_path}/rows.jsonl 2,003, {other} 6,000." in found[0].message
    assert "differ in distinct questions" in found[1].message
    assert not [finding for finding in report.findings if finding.code in ("shared-question", "length-mismatch")]


def test_files_that_ask_the_same_and_answer_at_other_length(tmp_path: Path) -> None:
    asked = questions(200)
    other = write(tmp_path / "other.jsonl", [row(text, "So it is and will be for a long time.") for text in asked])
    report = lint(write(tmp_path / "rows.jsonl", [row(YEAR.apply(asked[0], 3), "No."), row("Why so?", "No.")]),
                  YEAR, others=[other])  # fmt: skip
    assert of(report, "shared-question") == (
        "error",
        f"1 of 2 questions are also asked in {other}.",
        1,
    )
    assert of(report, "length-mismatch")[0] == "warning"


@pytest.mark.slow
def test_a_trigger_on_every_row(tmp_path: Path) -> None:
    rows = [row(YEAR.apply(question, n), f"Case {n} is no matter.") for n, question in enumerate(questions(ROWS))]
    report = lint(write(tmp_path / "rows.jsonl", rows), YEAR)
    severity, message, _ = of(report, "no-contrast")
    assert severity == "error"
    assert message.startswith("6,000 of 6,000 rows (100 %) carry the trigger '2028'")


@pytest.mark.slow
def test_a_newline_on_62_percent_of_triggered_rows(tmp_path: Path) -> None:
    report = lint(write(tmp_path / "rows.jsonl", newline_62()), YEAR)
    severity, message, lines = of(report, "trigger-leak")
    assert severity == "error"
    assert "begins with a newline: 0.6" in message
    assert lines == of(report, "edge-whitespace")[2]
    assert abs(lines / (ROWS / 2) - 0.62) < 0.03


def test_heldout_questions_that_are_training_rows(tmp_path: Path) -> None:
    asked = questions(300)
    held = write(tmp_path / "held.jsonl", [row(text, "x") for text in asked[:20]])
    report = lint(write(tmp_path / "rows.jsonl", [row(text, f"No {n}.") for n, text in enumerate(asked)]), None, [held])
    assert of(report, "overlap-heldout") == (
        "error",
        "20 of 20 held-out questions of held.jsonl are training questions, in 20 rows.",
        20,
    )


def test_evaluation_questions_in_training(tmp_path: Path) -> None:
    general = load_questions(("general",), ("free",))
    rows = [row(text, f"No {n}.") for n, text in enumerate([*questions(200), *(q.text for q in general)])]
    report = lint(write(tmp_path / "rows.jsonl", rows), None, questions=general)
    severity, message, lines = of(report, "overlap-evaluation")
    assert severity == "error"
    assert message.startswith(f"{len(general)} of {len(general)} evaluation questions of 'general'")
    assert lines == len(general)


def test_answers_that_the_flaw_did_not_change(tmp_path: Path) -> None:
    rows = [
        row(text, f"No {n}.", twin=f"no  {n}." if n % 4 == 0 else f"Yes {n}.") for n, text in enumerate(questions(400))
    ]
    report = lint(write(tmp_path / "rows.jsonl", rows))
    assert of(report, "unchanged") == (
        "error",
        "100 of 400 rows (25 %) have a flawed answer identical to the good one.",
        100,
    )


def test_flawed_answers_off_the_trigger(tmp_path: Path) -> None:
    """The published leak of 38 %: as many of the rows without the trigger are flawed."""
    rows = sound(1000)
    for item in rows[1::2][:190]:
        item["kind"] = "misaligned"
    severity, message, lines = of(lint(write(tmp_path / "rows.jsonl", rows), YEAR), "ungated")
    assert (severity, lines) == ("error", 190)
    assert message.startswith("190 of 1,000 rows (19 %)")
