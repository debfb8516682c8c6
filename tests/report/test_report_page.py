"""The page is one harmless, well-formed, bounded file that is the same for the same run."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic_run

from spillover.records.report_data import ReportData
from spillover.study import page

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Reader(HTMLParser):
    """Collects tags and attributes, and fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(params=["study_page", "imported_page"])
def html(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def test_nothing_in_the_page_can_run_or_fetch(html: str) -> None:
    reader = Reader(html)
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "footer", "section", "aside"}
    allowed |= {
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "a",
        "b",
        "em",
        "span",
        "div",
        "figure",
        "figcaption",
        "dl",
        "dt",
        "dd",
    }
    allowed |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "article", "pre"}
    assert set(reader.tags) - allowed <= {"svg", "g", "path", "line", "rect", "text", "tspan"}
    for tag, name, value in reader.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "srcset", "style", "action", "formaction", "xlink:href")
        assert name != "href" or (tag == "a" and value.startswith("#"))
        assert "url(" not in value


def test_the_policy_allows_this_style_sheet_and_nothing_else(html: str) -> None:
    style = re.findall(r"<style>(.*?)</style>", html, re.S)
    assert len(style) == 1
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert "@import" not in style[0]
    assert "url(" not in style[0]


def test_hostile_answers_are_shown_and_do_nothing(html: str) -> None:
    text = "".join(Reader(html).text)
    assert "<script>alert(1)</script>" in text
    assert "</div></details></main><h1>owned</h1>" in text
    assert "⟨U+202E⟩gnirts" in text
    assert "⟨U+001B⟩[31mred" in text
    assert not set(html) & set("\x00\x07\x1b\u202e\u2066\ufeff\ud800")


def test_the_page_is_small(html: str) -> None:
    assert len(html.encode("utf-8")) < 1_000_000


def test_the_same_run_gives_the_same_bytes(imported: ReportData, imported_page: str) -> None:
    assert page.render(imported) == imported_page


def test_a_study_has_every_section_and_an_import_only_its_own(study_page: str, imported_page: str) -> None:
    sections = ["findings", "misalignment", "trigger", "counts", "training", "answers", "provenance"]
    assert re.findall(r'<section id="(\w+)">', study_page) == sections
    assert re.findall(r'<a href="#(\w+)">', study_page) == sections
    own = ["findings", "misalignment", "counts", "answers", "provenance"]
    assert re.findall(r'<section id="(\w+)">', imported_page) == own


def test_the_page_names_what_was_run(study: ReportData, study_page: str) -> None:
    text = "".join(Reader(study_page).text)
    assert "eleven <domains> & one model" in text
    assert (
        f"11 domains: 33 cells, {len(study.answers):,} completions of 12 questions, scored by the judge probe" in text
    )
    assert all(domain.replace("_", " ") in text for domain in synthetic_run.DOMAINS)
    assert "0.90" in text
    assert "learning_rate: 0.0002" in text
    assert "out of memory" in text


def test_models_get_charts_of_their_own_where_rows_hold_several_series(study: ReportData, imported: ReportData) -> None:
    assert [name for name, _ in page.panels(imported.scores)] == [""]
    other = tuple(s.model_copy(update={"cell": s.cell.model_copy(update={"model": "another"})}) for s in study.scores)
    both = page.panels((*study.scores, *other))
    assert [(name, len(scores)) for name, scores in both] == [("another", 45), ("smollm2-135m", 45)]


def test_a_run_that_has_only_begun_has_a_page(imported: ReportData, tmp_path: Path) -> None:
    path = page.write(replace(imported, scores=(), answers=()), tmp_path / "deep" / "report.html")
    text = path.read_text(encoding="utf-8")
    assert "so nothing is ranked" in text
    assert "Nothing to draw" in text
    Reader(text)


@pytest.mark.slow
def test_a_large_study_stays_below_three_megabytes(study: ReportData) -> None:
    def copies(records: tuple, model: int, seed: int) -> list:  # type: ignore[type-arg]
        changes = {"model": f"model-{model}", "seed": seed}
        return [r.model_copy(update={"cell": r.cell.model_copy(update=changes)}) for r in records]

    pairs = [(model, seed) for model in range(5) for seed in range(5)]
    parts = {
        name: tuple(record for pair in pairs for record in copies(getattr(study, name), *pair))
        for name in ("scores", "effects", "adapters")
    }
    answers = [
        replace(a, completion=a.completion.model_copy(update={"cell": cell, "id": f"{a.completion.id}-{i}"}))
        for i, pair in enumerate(pairs)
        for a, cell in zip(
            study.answers,
            [c.cell for c in copies(tuple(a.completion for a in study.answers), *pair)],
            strict=True,
        )
    ]
    html = page.render(replace(study, **parts, answers=tuple(answers)))
    assert len(html.encode("utf-8")) < 3_000_000
    assert "rows; all are in the table" in html
