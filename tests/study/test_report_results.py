"""results.json: flat, stable, free of NaN, and as its reference page says."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from places import ROOT

from spillover.records.base import STATUSES
from spillover.records.report_data import ReportData
from spillover.study.results import SCHEMA, results, write_results

REFERENCE = ROOT / "docs" / "reference" / "results.md"


def test_rows_repeat_the_records(study: ReportData) -> None:
    rows = {(row["cell"], row["condition"]): row for row in results(study)["ranking"]}
    assert len(rows) == len(study.scores) == 45
    for score in study.scores:
        row = rows[score.cell.name, score.condition]
        assert (row["rate"], row["low"], row["high"], row["n"]) == (score.rate, score.low, score.high, score.n)
        assert (row["model"], row["domain"], row["variant"]) == (
            score.cell.model,
            score.cell.domain,
            score.cell.variant,
        )
        assert sum(row[status] for status in STATUSES) == row["n"]
        assert row["coherent"] + row["incoherent"] <= row["scored"]
        assert row["above_control"] == (score.above_control and score.above_control.model_dump())


def test_the_order_of_the_records_does_not_matter(study: ReportData) -> None:
    shuffle = random.Random(0)
    scores, effects = list(study.scores), list(study.effects)
    shuffle.shuffle(scores)
    shuffle.shuffle(effects)
    assert results(replace(study, scores=tuple(scores), effects=tuple(effects))) == results(study)
    assert [row["rank"] for row in results(study)["ranking"]][:11] == list(range(1, 12))


def test_the_file_is_plain_json_written_whole(study: ReportData, tmp_path: Path) -> None:
    path = write_results(study, tmp_path / "new" / "results.json")
    text = path.read_bytes().decode("ascii")
    assert json.loads(text, parse_constant=lambda name: 1 / 0) == results(study)
    assert json.loads(text)["schema"] == SCHEMA
    assert write_results(study, path).read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_every_field_is_in_the_reference(study: ReportData) -> None:
    content = results(study)
    page = REFERENCE.read_text(encoding="utf-8")
    names = [*content, *content["ranking"][0], *content["trigger_effect"][0], *content["manifest"]]
    assert [name for name in names if f"`{name}`" not in page] == []
