"""A heat map draws every pair once, in order, says its figures aloud and is empty where nothing was measured."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from spillover.report import heatmap as h
from spillover.report.heatmap import Shade, Square, heatmap

AUC = Shade(0.5, 0.5, ("below 0.5", "above 0.5"))
VALUES = {("sport", "sport"): 0.9, ("sport", "code"): 0.4, ("code", "sport"): None, ("code", "code"): 0.5}


def squares(values: dict[tuple[str, str], float | None]) -> list[Square]:
    return [
        Square(a, b, value, "–" if value is None else f"{value:.2f}", f"{a} on {b}: {value}", "*" if value else "")
        for (a, b), value in values.items()
    ]


def drawn(svg: str) -> dict[str, tuple[str, float]]:
    """Label -> colour and opacity of each square."""
    marks = [mark for mark in ElementTree.fromstring(svg).iter() if " on " in mark.get("aria-label", "")]
    return {m.get("aria-label", ""): (m.get("fill", ""), float(m.get("fill-opacity", "1"))) for m in marks}


def test_colour_is_the_side_and_opacity_the_distance() -> None:
    figure = heatmap("AUC", squares(VALUES), ("direction", "answers"), AUC)
    assert figure is not None
    for svg in (figure.wide, figure.narrow):
        found = drawn(svg)
        assert len(found) == 4
        assert found["sport on sport: 0.9"] == ("#c2410c", pytest.approx(h.STRONGEST * 0.8))
        assert found["sport on code: 0.4"] == ("#0d7a6b", pytest.approx(h.STRONGEST * 0.2))
        assert found["code on sport: None"][1] == found["code on code: 0.5"][1] == 0
        assert ">–</text>" in svg
        assert ">0.90</text>" in svg


def test_values_beyond_the_reach_are_strongest_not_stronger() -> None:
    figure = heatmap("rates", squares({("a", "a"): 80.0, ("a", "b"): 20.0}), ("", ""), Shade(0, 40, ("less", "more")))
    assert figure is not None
    assert [opacity for _, opacity in drawn(figure.wide).values()] == [h.STRONGEST, h.STRONGEST / 2]


def test_a_large_map_is_cut_and_says_so() -> None:
    many = {(f"{a}", f"{b}"): 0.6 for a in range(30) for b in range(2)}
    figure = heatmap("AUC", squares(many), ("", ""), AUC)
    assert figure is not None
    assert (figure.rows, figure.of) == (h.MOST, 30)
    assert len(drawn(figure.wide)) == h.MOST * 2


def test_nothing_measured_is_no_figure() -> None:
    assert heatmap("AUC", squares({("a", "a"): None}), ("", ""), AUC) is None
    assert heatmap("AUC", [], ("", ""), AUC) is None


def test_the_ink_keeps_its_contrast_on_the_strongest_square() -> None:
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
            mixed = luminance([h.STRONGEST * c + (1 - h.STRONGEST) * p for c, p in pairs])
            text = luminance(channels(ink))
            assert (max(mixed, text) + 0.05) / (min(mixed, text) + 0.05) >= 4.5, (paper, colour)
