"""The visible text of a synthetic report, line by line, against snapshot.txt; and captions that name one table each."""

from __future__ import annotations

import difflib
import html
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic_analyses

from spillover.report import charts
from spillover.study import page

SNAPSHOT = Path(__file__).with_name("snapshot.txt")
ANEW = "SNAPSHOT=write .venv/bin/pytest -m '' -n 0 tests/report/test_report_snapshot.py"
BLOCKS = {"section", "p", "li", "h1", "h2", "h3", "tr", "caption", "summary", "dt", "pre", "footer", "figcaption"}
MARKS = {"h1": "# ", "h2": "## ", "h3": "### ", "li": "- ", "caption": "[table] ", "summary": "[folded] "}

pytestmark = pytest.mark.slow


class VisibleText(HTMLParser):
    """A line for each block, cells parted by bars. A chart is its title, once; packages and settings are left out."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.dump = False
        self.feed(text[text.index("<body>") :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.dump = tag == "pre"
        if tag == "svg":
            title = f"[chart] {dict(attrs)['aria-label']}"
            self.lines += [] if title in self.lines[-2:] else [title, ""]
        elif tag in BLOCKS or (tag, "class", "answer") in [(tag, *pair) for pair in attrs]:
            self.lines.append(MARKS.get(tag, ""))
        elif tag in ("td", "th", "dd") and self.lines[-1]:
            self.lines[-1] += " | "
        elif tag in ("a", "span") and self.lines[-1]:
            self.lines[-1] += " "

    def handle_data(self, data: str) -> None:
        if self.dump:
            return
        before, *more = data.split("\n")
        self.lines[-1:] = [self.lines[-1] + before if self.lines else before, *more]


@pytest.fixture(scope="module")
def whole() -> str:
    """The page of a study with every analysis, its charts left empty: what they draw is not text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "svg", lambda spec, title: f'<svg aria-label="{html.escape(title)}"></svg>')
        return page.render(synthetic_analyses.study())


def test_the_report_reads_as_it_did(whole: str) -> None:
    text = "\n".join(line.rstrip() for line in VisibleText(whole).lines if line.strip()) + "\n"
    if os.environ.get("SNAPSHOT") == "write":
        SNAPSHOT.write_text(text, encoding="utf-8")
    before = SNAPSHOT.read_text(encoding="utf-8")
    changes = difflib.unified_diff(before.splitlines(), text.splitlines(), "snapshot.txt", "the page", n=1, lineterm="")
    if text != before:
        pytest.fail(
            "\n".join([f"The page has changed. If that is intended, write the snapshot anew: {ANEW}", *changes])
        )


def test_no_two_tables_have_one_caption(whole: str) -> None:
    counted = Counter(re.findall("<caption>(.*?)</caption>", whole, re.DOTALL))
    assert len(counted) > 30
    assert [caption for caption, times in counted.items() if times > 1] == []
