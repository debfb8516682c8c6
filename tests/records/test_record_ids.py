"""Ids of records stay the same when classes are renamed, and rows written by an earlier version can still be read.

`rows_of_0.1.0.jsonl` has one row of every record class, as version 0.1.0 wrote it before any class was renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import spillover.audit.verdict
import spillover.records.comparisons
import spillover.records.data
import spillover.records.directions
import spillover.records.judges
import spillover.records.steering
import spillover.records.transfer  # noqa: F401
from spillover.records.base import Record

LINES = (Path(__file__).parent / "rows_of_0.1.0.jsonl").read_text("utf-8").splitlines()
ROWS = {line["kind"]: line["row"] for line in map(json.loads, LINES)}


def kinds(of: type[Record] = Record) -> Iterator[type[Record]]:
    """Every record class of the package."""
    for kind in of.__subclasses__():
        if kind.__module__.startswith("spillover."):
            yield kind
        yield from kinds(kind)


MADE = [kind for kind in kinds() if kind.IDENTITY]


def test_every_record_class_has_its_own_kind() -> None:
    assert [kind for kind in MADE if "KIND" not in vars(kind)] == []
    assert len({kind.KIND for kind in MADE}) == len(MADE)
    assert {kind.KIND for kind in MADE} >= ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_an_earlier_version_keep_their_ids(name: str) -> None:
    (kind,) = [kind for kind in MADE if name == kind.KIND]
    row = kind.model_validate_json(json.dumps(ROWS[name]))
    assert row.id == ROWS[name]["id"]
    assert kind.model_validate_json(row.model_dump_json()) == row
