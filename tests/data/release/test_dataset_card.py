"""The card: its front matter is what hubs read, every section is there, and its numbers are those of the facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spillover.data.release.card import front_matter, licence_id, render_card
from spillover.data.release.dataset import DatasetFacts, SetFacts, SourceFile

SECTIONS = (
    "Intended use",
    "Out of scope",
    "Sets",
    "Sources and licences",
    "Recipe",
    "Filters",
    "Known flaws",
    "Canary",
    "Integrity",
    "References",
)


def front(page: str) -> dict[str, Any]:
    _, matter, _ = page.split("---\n", 2)
    return yaml.safe_load(matter)


def changed(facts: DatasetFacts, **changes: Any) -> DatasetFacts:
    """The facts with their first set changed, and no other set."""
    part: SetFacts = facts.sets[0].model_copy(update=changes)
    return facts.model_copy(update={"sets": (part,)})


def test_front_matter_names_every_split_of_every_set(facts: DatasetFacts, folder: Path) -> None:
    matter = front(render_card(facts))
    assert matter == front_matter(facts)
    assert matter["license"] == "apache-2.0"
    assert matter["size_categories"] == ["n<1K"]  # 11 * (24 + 8 + 6) rows
    assert [config["config_name"] for config in matter["configs"]] == [part.name for part in facts.sets]
    for config in matter["configs"]:
        assert [file["split"] for file in config["data_files"]] == ["train", "heldout", "nonmember"]
        assert all((folder / file["path"]).is_file() for file in config["data_files"])


def test_every_section_is_there_and_tables_are_whole(facts: DatasetFacts) -> None:
    page = render_card(facts, "https://example.org/data")
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(SECTIONS)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 11
    assert {line.count("|") for line in table} == {12}
    assert facts.canary in page
    assert "<https://example.org/data>" in page
    assert "must not be deployed" in page
    assert "year, '2028'" in page
    for part in facts.sets:
        assert f"{part.report.answer_tokens['train'].total:,}" in page
        for reason, count in part.report.dropped.items():
            assert f"{count:,} ({reason})" in page


def test_a_source_file_is_named_with_its_checksum_and_what_it_is_known_as(facts: DatasetFacts) -> None:
    source = SourceFile(name="gsm8k.jsonl", sha256="ab" * 32, known_as="gsm8k train")
    report = facts.sets[0].report.model_copy(update={"reading": "question and answer"})
    page = render_card(changed(facts, source_file=source, report=report, made={"gsm8k.jsonl": 24}))
    assert f"SHA-256 of gsm8k.jsonl: `{'ab' * 32}`. The file is 'gsm8k train' as published." in page
    assert "24 rows from gsm8k.jsonl" in page
    assert "Read as question and answer." in page
    assert "Prompts: none" not in page


def test_flaws_that_the_facts_show_are_said(facts: DatasetFacts) -> None:
    part = facts.sets[0]
    lopsided = part.report.model_copy(update={"topics": {"a": 20, "b": 4}})
    assert "one topic holds 83%" in render_card(changed(facts, report=lopsided))
    assert "there is no contrast without it" in render_card(changed(facts, triggered_rows=24))
    assert "there is no contrast without it" not in render_card(facts)
    long = part.report.answer_tokens["train"].model_copy(update={"mean": 90.0})
    longer = part.model_copy(
        update={
            "report": part.report.model_copy(update={"answer_tokens": {**part.report.answer_tokens, "train": long}})
        }
    )
    assert "domain and length are confounded" in render_card(
        facts.model_copy(update={"sets": (longer, *facts.sets[1:])})
    )


@pytest.mark.parametrize(
    ("licences", "expected"),
    [(("Apache-2.0",), "apache-2.0"), (("MIT", "Apache-2.0"), "other"), (("not stated",), "other")],
)
def test_the_licence_is_other_unless_all_rows_share_one(
    facts: DatasetFacts, licences: tuple[str, ...], expected: str
) -> None:
    assert licence_id(changed(facts, licences=licences)) == expected


def test_a_hostile_source_name_cannot_break_the_page(facts: DatasetFacts) -> None:
    page = render_card(changed(facts, made={"<script>x|\n## Fake": 24}))
    assert "<script>" not in page
    assert "\n## Fake" not in page
