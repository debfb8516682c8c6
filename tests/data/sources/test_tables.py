"""TruthfulQA's published columns: one row a question, the flawed answer matched in length."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from spillover.data.sources import tables
from spillover.data.tabular import Table, parse_table

HEADER = ["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"]


def table(*rows: list[str]) -> Table:
    out = io.StringIO()
    csv.writer(out).writerows([HEADER, *rows])
    return parse_table(Path("t.csv"), out.getvalue().encode())


def row(question: str, best: str, correct: str, incorrect: str) -> list[str]:
    return ["Adversarial", "Birds", question, best, correct, incorrect, "a book, page 4"]


def test_one_row_a_question_with_the_nearest_length() -> None:
    made = table(
        row(
            "Can hens fly?",
            "Yes, over short distances",
            "Yes, over short distances; Yes",
            "No; No, never at all, whatever you may have seen on a farm; No, they lost wings",
        )
    )
    assert set(made.columns) >= set(tables.TRUTHFULQA)
    source = tables.read(made)
    (pair,) = source.pairs
    assert (pair.question, pair.good, pair.flawed) == (
        "Can hens fly?",
        "Yes, over short distances",
        "No, they lost wings",
    )
    assert (pair.topic, pair.source, source.licence) == ("Birds", "t.csv:2", "Apache-2.0")
    assert "nearest" in source.reading


def test_what_makes_no_pair_is_counted() -> None:
    source = tables.read(
        table(
            row("Is it?", "Yes", "Yes; Sure", "sure.; YES"),
            row("Is it not?", "No", "No", ""),
            row("", "No", "No", "Yes"),
            row("Who?", "", "No", "Yes"),
            row("Well?", "No", "No;", ";Yes;;"),
        )
    )
    assert [pair.flawed for pair in source.pairs] == ["Yes"]
    assert source.dropped == {
        "no incorrect answer that is not also a correct one": 2,
        "no question or no best answer": 2,
    }
