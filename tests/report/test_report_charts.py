"""Charts draw every known score once, say so to screen readers, and come out the same every time."""

from __future__ import annotations

from xml.etree import ElementTree

from spillover.records.base import Cell
from spillover.records.report_data import ReportData
from spillover.report import charts
from spillover.report.labels import SERIES, Labels


def labels_in(svg: str) -> list[str]:
    """The aria-labels of the marks."""
    return [mark.get("aria-label", "") for mark in ElementTree.fromstring(svg).iter() if mark.get("aria-label")]


def test_every_score_is_a_mark_in_both_renderings(study: ReportData) -> None:
    figure = charts.misalignment(study.scores, Labels(s.cell for s in study.scores), 60)
    assert figure is not None
    assert (figure.rows, figure.of) == (11, 11)
    for svg, width in ((figure.wide, charts.WIDE), (figure.narrow, charts.NARROW)):
        assert ElementTree.fromstring(svg).get("width") == str(width)
        marks = [label for label in labels_in(svg) if " % of " in label and not label.startswith("X-axis")]
        assert len(marks) == len(study.scores)
        top = next(s for s in study.scores if s.rank == 1)
        assert any(f"fine-tuned: {100 * (top.rate or 0):.1f} [" in label for label in marks)


def test_the_same_records_give_the_same_bytes(study: ReportData) -> None:
    labels = Labels(s.cell for s in study.scores)
    assert charts.trigger(study.effects, labels, 3) == charts.trigger(study.effects, labels, 3)


def test_the_trigger_chart_has_two_ends_a_row(study: ReportData) -> None:
    figure = charts.trigger(study.effects, Labels(e.cell for e in study.effects), 5)
    assert figure is not None
    assert (figure.rows, figure.of) == (5, 11)
    assert sum("alignment changes by" in label for label in labels_in(figure.wide)) == 10


def test_the_most_misaligned_rows_are_kept(study: ReportData) -> None:
    figure = charts.misalignment(study.scores, Labels(s.cell for s in study.scores), 3)
    assert figure is not None
    text = " ".join(labels_in(figure.narrow))
    assert all(
        (f"{s.cell.domain.replace('_', ' ')}, fine-tuned" in text) == (s.rank <= 3) for s in study.scores if s.rank
    )


def test_a_twin_is_drawn_beside_every_dose_that_it_belongs_to(study: ReportData) -> None:
    plain, twin = (next(s for s in study.scores if s.cell.variant == variant) for variant in ("plain", "control"))
    assert plain.cell.domain == twin.cell.domain
    half = plain.model_copy(update={"cell": plain.cell.model_copy(update={"dose": 0.5})})
    scores = [plain, half, twin]
    figure = charts.misalignment(scores, Labels(s.cell for s in scores), 60)
    assert figure is not None
    assert figure.of == 2
    assert sum("benign twin (control):" in label for label in labels_in(figure.wide)) == 2


def test_nothing_known_is_nothing_drawn(study: ReportData) -> None:
    blank = [s.model_copy(update={"rate": None, "low": None, "high": None}) for s in study.scores]
    assert charts.misalignment(blank, Labels(s.cell for s in blank), 60) is None
    assert charts.trigger([], Labels([]), 60) is None


def test_a_hostile_name_stays_text(imported: ReportData) -> None:
    name = "</svg><script>'\"&\\"
    cell = Cell(model=name, domain="d", variant="plain")
    score = imported.scores[0].model_copy(update={"cell": cell})
    figure = charts.misalignment([score, imported.scores[1]], Labels([cell, imported.scores[1].cell]), 60)
    assert figure is not None
    for svg in (figure.wide, figure.narrow):
        assert not [element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("script")]
        assert any(label.startswith(name) for label in labels_in(svg))


def test_every_series_has_a_style() -> None:
    assert set(charts.STYLE) == set(SERIES.values())
