"""Charts draw every known value once, name it for screen readers, and are the same every time."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from spillover.records.base import Cell
from spillover.records.report_data import ReportData
from spillover.report import charts
from spillover.report.charts import HeatmapCell, Shade, heatmap
from spillover.report.labels import SERIES, Labels

AUC = Shade(0.5, 0.5, ("below 0.5", "above 0.5"))
VALUES = {("sport", "sport"): 0.9, ("sport", "code"): 0.4, ("code", "sport"): None, ("code", "code"): 0.5}


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


def heatmap_cells(values: dict[tuple[str, str], float | None]) -> list[HeatmapCell]:
    return [
        HeatmapCell(a, b, value, "–" if value is None else f"{value:.2f}", f"{a} on {b}: {value}", "*" if value else "")
        for (a, b), value in values.items()
    ]


def drawn(svg: str) -> dict[str, tuple[str, float]]:
    """Label -> colour and opacity of each cell."""
    marks = [mark for mark in ElementTree.fromstring(svg).iter() if " on " in mark.get("aria-label", "")]
    return {m.get("aria-label", ""): (m.get("fill", ""), float(m.get("fill-opacity", "1"))) for m in marks}


def test_colour_is_the_side_and_opacity_the_distance() -> None:
    figure = heatmap("AUC", heatmap_cells(VALUES), ("direction", "answers"), AUC)
    assert figure is not None
    for svg in (figure.wide, figure.narrow):
        found = drawn(svg)
        assert len(found) == 4
        assert found["sport on sport: 0.9"] == ("#c2410c", pytest.approx(charts.STRONGEST * 0.8))
        assert found["sport on code: 0.4"] == ("#0d7a6b", pytest.approx(charts.STRONGEST * 0.2))
        assert found["code on sport: None"][1] == found["code on code: 0.5"][1] == 0
        assert ">–</text>" in svg
        assert ">0.90</text>" in svg


def test_values_beyond_the_reach_are_strongest_not_stronger() -> None:
    figure = heatmap(
        "rates", heatmap_cells({("a", "a"): 80.0, ("a", "b"): 20.0}), ("", ""), Shade(0, 40, ("less", "more"))
    )
    assert figure is not None
    assert [opacity for _, opacity in drawn(figure.wide).values()] == [charts.STRONGEST, charts.STRONGEST / 2]


def test_a_large_map_is_cut_and_says_so() -> None:
    many = {(f"{a}", f"{b}"): 0.6 for a in range(30) for b in range(2)}
    figure = heatmap("AUC", heatmap_cells(many), ("", ""), AUC)
    assert figure is not None
    assert (figure.rows, figure.of) == (charts.MOST_SIDE, 30)
    assert len(drawn(figure.wide)) == charts.MOST_SIDE * 2


def test_nothing_measured_is_no_figure() -> None:
    assert heatmap("AUC", heatmap_cells({("a", "a"): None}), ("", ""), AUC) is None
    assert heatmap("AUC", [], ("", ""), AUC) is None


def test_the_ink_keeps_its_contrast_on_the_strongest_cell() -> None:
    """WCAG contrast of at least 4.5 on both papers; colours as charts and style sheet have them."""

    def channels(colour: str) -> list[float]:
        return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]

    def luminance(rgb: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for paper, ink, colours in (
        ("#ffffff", "#1f2933", ("#c2410c", "#0d7a6b")),
        ("#14181d", "#e6e9ee", ("#fb923c", "#2dd4bf")),
    ):
        for colour in colours:
            pairs = zip(channels(colour), channels(paper), strict=True)
            mixed = luminance([charts.STRONGEST * c + (1 - charts.STRONGEST) * p for c, p in pairs])
            text = luminance(channels(ink))
            assert (max(mixed, text) + 0.05) / (min(mixed, text) + 0.05) >= 4.5, (paper, colour)
