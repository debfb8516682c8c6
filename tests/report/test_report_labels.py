"""Labels say what sets a cell apart, and nothing else; the ranking falls back where there are no plain cells."""

from __future__ import annotations

from spillover.records.base import Cell
from spillover.records.report_data import ReportData
from spillover.report.labels import BASE_MODEL, Labels, control_of, ordered, ranked, series


def test_one_model_is_named_by_domain(study: ReportData) -> None:
    labels = Labels(score.cell for score in study.scores)
    assert labels.of(Cell(model="smollm2-135m", domain="gore_movie_trivia", variant="plain")) == "gore movie trivia"
    assert labels.of(Cell(model="smollm2-135m", domain="evil_math", variant="control", dose=0)) == "evil math"
    assert labels.of(Cell(model="smollm2-135m", domain="none", variant="base", dose=0)) == BASE_MODEL


def test_models_seeds_and_doses_are_named_where_they_differ() -> None:
    cells = [
        Cell(model="a", domain="d", variant="plain", dose=0.5),
        Cell(model="a", domain="d", variant="plain"),
        Cell(model="a", domain="d", variant="control", dose=0.0),
        Cell(model="b", domain="d", variant="plain", seed=0),
        Cell(model="b", domain="d", variant="plain", seed=42),
        Cell(model="b", domain="none", variant="base", dose=0.0),
    ]
    names = [Labels(cells).of(cell) for cell in cells]
    assert names == ["a · dose 0.5", "a · dose 1", "a", "b · seed 0", "b · seed 42", f"{BASE_MODEL} · b"]
    assert Labels(cells, show_model=False).of(cells[4]) == "d · seed 42"


def test_a_hostile_name_stays_on_one_line() -> None:
    cell = Cell(model="x\ny\u202e", domain="a\x1b[31m_b", variant="plain")
    assert Labels([cell]).of(cell) == "a⟨U+001B⟩[31m b"
    assert Labels([cell, Cell(model="z", domain="q", variant="plain")]).of(cell) == "x y⟨U+202E⟩ · a⟨U+001B⟩[31m b"


def test_series_have_names() -> None:
    assert series("triggered", "triggered") == "backdoored, with trigger"
    assert series("plain", "triggered") == "fine-tuned, with trigger"
    assert series("control", "near_miss") == "benign twin (control), near miss"


def test_the_ranking_holds_plain_cells_else_backdoored_ones(study: ReportData) -> None:
    assert [score.rank for score in ranked(study.scores)] == list(range(1, 12))
    rest = [score for score in study.scores if score.cell.variant != "plain"]
    assert {(s.cell.variant, s.condition) for s in ranked(rest)} == {("triggered", "triggered")}
    assert ranked([]) == []


def test_every_score_is_ordered_once_and_finds_its_twin(study: ReportData) -> None:
    assert sorted(s.id for s in ordered(study.scores)) == sorted(s.id for s in study.scores)
    for score in study.scores:
        twin = control_of(score, study.scores)
        assert (twin is None) == (score.cell.variant == "base")
        assert twin is None or (twin.cell.variant, twin.cell.domain) == ("control", score.cell.domain)
