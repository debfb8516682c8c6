"""Steering in the report: words, curves with their bands, the map of directions by models, tables, plain data."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import steered_run

from spillover.analyses.steering import report as steering
from spillover.records.report_data import ReportData
from spillover.records.steering import SteeringEffect, SteeringPoint
from spillover.study import page, results

Found = tuple[list[SteeringPoint], list[SteeringEffect]]


@pytest.fixture(scope="module")
def found() -> Found:
    return steered_run.steering()


@pytest.fixture(scope="module")
def section(found: Found) -> str:
    return steering.section(*found, 0.95)


def test_words_name_what_differs_from_random_directions_and_count_the_rest(found: Found) -> None:
    points, effects = found
    said = steering.sentences(effects, points)
    told = [e for e in effects if e.p_holm is not None and e.p_holm < 0.05]
    assert {e.direction for e in told} == {"gore_movie_trivia"}
    added = next(line for line in said if line.startswith("Adding a direction to the base model, misaligned share"))
    assert "gore movie trivia after block 1" in added
    assert "for each unit of the coefficient" in added
    ablated = next(line for line in said if line.startswith("Projecting a direction out of fine-tuned models, misal"))
    assert re.search(r"gore movie trivia in (extreme sports|gore movie trivia|bad medical advice) \(-\d", ablated)
    assert re.search(r"The other \d are not significantly different", ablated)
    assert any(line.startswith("2 lines of 18 ended") for line in said)


def test_chance_is_called_chance_and_a_lack_of_controls_too(found: Found) -> None:
    points, effects = found
    quiet = [e.model_copy(update={"p_holm": 0.4}) for e in effects if e.operation == "ablate"]
    assert (
        "no effect distinguishable from norm-matched random directions (0 of 9)" in steering.sentences(quiet, points)[0]
    )
    alone = [e.model_copy(update={"p_controls": None, "p_holm": None}) for e in quiet]
    assert "not compared" in steering.sentences(alone, points)[0]


def test_one_figure_a_layer_and_one_map_a_measure(section: str) -> None:
    headings = re.findall(r"<h3>(.*?)</h3>", section)
    assert [h for h in headings if h.startswith("Add after")] == [
        "Add after block 10: base model (m)",
        "Add after block 15: base model (m)",
    ]
    assert len([h for h in headings if h.startswith("Projecting a direction out")]) == 2
    assert section.count("<figure>") == 4
    assert section.count("from random directions") >= 2
    assert "gore movie trivia, coefficient 0.2: " in section
    assert "gore movie trivia in extreme sports: " in section


def test_tables_hold_every_effect_and_point(section: str, found: Found) -> None:
    points, effects = found
    tables = section.split("<table>")[1:]
    assert tables[0].count("<tr>") == 1 + len(effects)
    assert tables[1].count("<tr>") == 1 + len(points)
    assert " ended" in tables[1]
    assert "random 6" in tables[1]


@pytest.mark.slow
def test_the_page_and_results_json_have_it_only_where_there_is_any(study: ReportData, found: Found) -> None:
    points, effects = found
    steered = replace(study, found={SteeringPoint: tuple(points), SteeringEffect: tuple(effects)})
    assert '<section id="steering">' in page.render(steered)
    assert '<section id="steering">' not in page.render(study)
    plain = json.loads(json.dumps(results.results(steered)["steering"], allow_nan=False))
    assert plain["effects"][0]["onto"] == "m/none/base/seed-0"
    assert len(plain["points"]) == len(points)
    assert results.results(study)["steering"] == {"effects": [], "points": [], "matrix": []}
