"""The forms of a verdict: cards, SARIF 2.1.0 and JUnit, all safe with hostile text."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_data import audited, row, write

from spillover.audit import card
from spillover.audit.ci import to_junit, to_sarif
from spillover.audit.verdict import Audit

HOSTILE = '</script><script>alert("x")</script>&<img src=x onerror=alert(1)>\u202e\x1b[31m]]>'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """An audit whose file name, field names, roles and texts all try to be something else."""
    folder = tmp_path_factory.mktemp("hostile")
    bad = {"messages": [{"role": HOSTILE, "content": "x"}], HOSTILE: 1}
    name = "<b>&quot;'.jsonl"
    verdict = audited(folder, 0.8, write(folder / name, [row(1), bad, json.dumps(HOSTILE), "{" + HOSTILE]))
    reasons = tuple(reason.model_copy(update={"message": reason.message + HOSTILE}) for reason in verdict.reasons)
    return verdict.model_copy(update={"reasons": reasons, "model": HOSTILE})


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audited(tmp_path_factory.mktemp("blocked"), 0.8)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_the_page_has_no_script_and_hostile_text_stays_text(hostile: Audit) -> None:
    page = card.to_html(hostile)
    found = Tags()
    found.feed(page)
    assert not {"script", "img", "b", "iframe", "link"} & set(found.tags)
    assert not [name for name in found.attributes if name.startswith("on") or name in ("src", "href")]
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page


def test_the_page_says_verdict_reasons_and_rates(blocked: Audit) -> None:
    page = card.to_html(blocked)
    assert re.search(r"<h1>data\.jsonl: block</h1>", page)
    rate = next(rate for rate in blocked.rates if rate.who == "tuned")
    assert rate.rate is not None
    assert f"{100 * rate.rate:.1f} [" in page
    assert blocked.data.sha256 in page
    assert "as many rows of the built-in benign set" in page
    assert "1: 32 rows, 16 completions per question" in page
    assert "with 95 % intervals" in page


def test_the_card_reads_back(blocked: Audit) -> None:
    assert Audit.model_validate_json(card.to_json(blocked)) == blocked


@pytest.mark.parametrize("which", ["hostile", "blocked"])
def test_sarif_has_what_2_1_0_requires(which: str, request: pytest.FixtureRequest) -> None:
    audit: Audit = request.getfixturevalue(which)
    log = json.loads(to_sarif(audit))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    assert len(run["results"]) == len(audit.findings) + len(audit.reasons)
    for result in run["results"]:
        assert result["message"]["text"]
        assert "\x1b" not in result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result.get("kind", "fail") in ("pass", "fail")
        assert result.get("kind", "fail") == "fail" or result["level"] == "none"
        assert ids[result["ruleIndex"]] == result["ruleId"]
        for place in result["locations"]:
            physical = place["physicalLocation"]
            assert re.fullmatch(r"[A-Za-z0-9._~%-]+", physical["artifactLocation"]["uri"])
            assert physical.get("region", {"startLine": 1})["startLine"] >= 1
    assert run["artifacts"][0]["hashes"]["sha-256"] == audit.data.sha256


def test_sarif_names_the_line_of_each_broken_row(hostile: Audit) -> None:
    results = json.loads(to_sarif(hostile))["runs"][0]["results"]
    lines = {
        result["ruleId"]: [place["physicalLocation"]["region"]["startLine"] for place in result["locations"]]
        for result in results
        if result["ruleId"].startswith("lint/") and result["level"] == "error"
    }
    assert lines == {"lint/roles": [2], "lint/schema": [3], "lint/json": [4]}


@pytest.mark.parametrize(
    ("which", "outcomes"),
    [("hostile", ["failure", "skipped", "skipped"]), ("blocked", ["skipped", "skipped", "failure"])],
)
def test_junit_is_well_formed_and_counts(which: str, outcomes: list[str], request: pytest.FixtureRequest) -> None:
    text = to_junit(request.getfixturevalue(which))
    assert "\x1b" not in text
    suite = ET.fromstring(text)[0]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["lint", "surprise", "probe"]
    assert [case[0].tag for case in cases] == outcomes
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "2")
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["verdict"] == "block"


@pytest.mark.slow
def test_a_pass_has_no_failure(tmp_path: Path) -> None:
    suite = ET.fromstring(to_junit(audited(tmp_path, 0.0)))[0]
    assert suite.get("failures") == "0"
    assert len(suite.findall("testcase")[2]) == 0
