"""The matrix of directions by domains asked about, in the report, for a terminal and as plain data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO

import pytest
import steered_run
from rich.console import Console

from spillover.analyses.steering import matrix_report as steering_matrix
from spillover.records.report_data import ReportData
from spillover.records.steering import SteeringMatrixCell
from spillover.records.transfer import OTHERS
from spillover.study import page, results
from spillover.text import number


@pytest.fixture(scope="module")
def squares() -> list[SteeringMatrixCell]:
    return steered_run.matrix()


def starred(squares: list[SteeringMatrixCell]) -> list[SteeringMatrixCell]:
    return [s for s in squares if s.rate_change and s.rate_change.p_holm is not None and s.rate_change.p_holm < 0.05]


def test_words_name_what_differs_and_count_it_by_family(squares: list[SteeringMatrixCell]) -> None:
    said = steering_matrix.sentences(squares)
    assert said[0].startswith("A domain's direction added to the base model (m, after block 15, coefficient 0.2)")
    assert re.match(r"Coherent completions: \d+\.\d % for the base model, \d+\.\d to \d+\.\d % with", said[1])
    told = starred(squares)
    assert {s.direction for s in told} == {"gore_movie_trivia"}
    off = [s for s in told if s.asked != OTHERS and not s.in_domain]
    line = next(s for s in said if s.startswith("Misaligned share, asked about another domain: "))
    assert f"{len(off)} of 6 differ from random directions: gore movie trivia about " in line
    assert off[0].rate_change is not None
    assert number(100 * (off[0].rate_change.value or 0), sign=True) in line
    assert any(s.startswith("Misaligned share, asked about all other domains combined: 1 of 3") for s in said)


def test_chance_is_called_chance_and_a_lack_of_controls_too(squares: list[SteeringMatrixCell]) -> None:
    def changed(**what: float | None) -> list[SteeringMatrixCell]:
        fields = ("rate_change", "alignment_change")
        return [
            s.model_copy(update={f: c.model_copy(update=what) for f in fields if (c := getattr(s, f))}) for s in squares
        ]

    said = steering_matrix.sentences(changed(p_holm=0.4))
    assert (
        "Misaligned share, asked about another domain: no effect distinguishable from random directions (0 of 6)."
        in said
    )
    assert sum("not compared" in line for line in steering_matrix.sentences(changed(p_controls=None, p_holm=None))) == 6


@pytest.mark.slow
def test_two_maps_with_marks_brackets_and_n_and_every_square_in_the_table(squares: list[SteeringMatrixCell]) -> None:
    section = steering_matrix.section(squares, 0.95)
    assert section.count("<figure>") == 2
    assert "A matrix cell has 8 completions; the misaligned share is of the coherent ones, " in section
    (square,) = [s for s in squares if (s.direction, s.asked) == ("extreme_sports", "extreme_sports")]
    assert square.rate_change is not None
    assert f"[{number(100 * (square.rate_change.value or 0), 0, sign=True)}]" in section.replace("\u2212", "-")
    assert "extreme sports about gore movie trivia: " in section
    assert f"{square.coherent} of 8 completions, Holm p " in section
    assert "random directions, mean" in section
    assert ">*<" in section
    of_rate, of_alignment = section.split("<table>")[1:]
    for table in (of_rate, of_alignment):
        assert table.count('<th scope="row">') == len(squares) == 3 * 4 + 3
    assert ">misaligned %</th>" in of_rate
    assert ">mean alignment</th>" in of_alignment


def test_terminal_tables_number_their_columns(squares: list[SteeringMatrixCell]) -> None:
    out = StringIO()
    for table in steering_matrix.tables(squares):
        Console(file=out, width=100).print(table)
    shown = out.getvalue()
    assert shown.count("direction of") == 2
    first = next(line for line in shown.splitlines() if line.startswith("gore movie trivia"))
    assert first.count("*") == len(starred(squares))
    assert steering_matrix.legend(squares) == (
        "Asked about: 1 bad medical advice, 2 extreme sports, 3 gore movie trivia."
    )


@pytest.mark.slow
def test_the_page_and_results_json_have_it_only_where_there_is_any(
    study: ReportData, squares: list[SteeringMatrixCell]
) -> None:
    steered = replace(study, found={SteeringMatrixCell: tuple(squares)})
    assert "questions of other domains</h3>" in page.render(steered)
    assert '<section id="steering">' not in page.render(study)
    plain = json.loads(json.dumps(results.results(steered)["steering"], allow_nan=False))
    assert len(plain["matrix"]) == len(squares)
    assert {row["onto"] for row in plain["matrix"]} == {"m/none/base/seed-0"}
    assert plain["matrix"][-1]["rate_change"]["controls"] == steered_run.CONTROLS
