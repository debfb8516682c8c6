"""Croissant metadata: the structure that the format demands, checked without its library."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from spillover.data.release.card import CONFORMS_TO, CONTEXT, croissant
from spillover.data.release.dataset import DatasetFacts


@pytest.fixture
def metadata(facts: DatasetFacts) -> dict[str, Any]:
    return json.loads(json.dumps(croissant(facts, "https://example.org/data", "2026-03-31")))


def test_what_the_format_demands_of_a_data_set(metadata: dict[str, Any]) -> None:
    assert metadata["@type"] == "sc:Dataset"
    assert metadata["conformsTo"] == CONFORMS_TO == "http://mlcommons.org/croissant/1.1"
    for key in ("name", "description", "license", "url", "datePublished", "version", "citeAs"):
        assert re.search(r"\w", metadata[key]), key
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    assert metadata["@context"]["@vocab"] == "https://schema.org/"


def test_every_key_has_a_meaning(metadata: dict[str, Any]) -> None:
    """Every key is a keyword of JSON-LD, in the context, of a prefix in it, or one of schema.org that is used here."""
    schema_org = {"name", "description", "license", "version", "keywords", "url", "datePublished", "distribution"}
    schema_org |= {"contentUrl", "contentSize", "encodingFormat", "sha256"}

    def check(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                check(item)
        if isinstance(value, dict):
            for key, inner in value.items():
                assert key.startswith("@") or key in CONTEXT or key.partition(":")[0] in CONTEXT or key in schema_org, (
                    key
                )
                if key != "@context":
                    check(inner)

    check(metadata)


def test_files_are_those_of_the_folder(metadata: dict[str, Any], folder: Path) -> None:
    objects = metadata["distribution"]
    assert {item["contentUrl"] for item in objects} == {
        str(path.relative_to(folder)) for path in folder.rglob("*.jsonl")
    }
    for item in objects:
        content = (folder / item["contentUrl"]).read_bytes()
        assert item["@type"] == "cr:FileObject"
        assert item["sha256"] == hashlib.sha256(content).hexdigest()
        assert item["contentSize"] == f"{len(content)} B"
        assert item["encodingFormat"] == "application/jsonlines"


def test_ids_are_unique_and_fields_read_what_is_there(metadata: dict[str, Any], folder: Path) -> None:
    sets = metadata["recordSet"]
    ids = [node["@id"] for node in (*metadata["distribution"], *sets, *(field for s in sets for field in s["field"]))]
    assert len(ids) == len(set(ids))
    files = {item["@id"]: item["contentUrl"] for item in metadata["distribution"]}
    kinds = {"sc:Text": str, "sc:Integer": int}
    for field in (field for part in sets for field in part["field"]):
        source = field["source"]
        row = json.loads((folder / files[source["fileObject"]["@id"]]).read_text("utf-8").splitlines()[0])
        value = row[source["extract"]["column"]]
        if field.get("repeated"):
            value = value[0][source["transform"]["jsonPath"]]
        assert isinstance(value, kinds[field["dataType"]]), field["@id"]


def test_address_and_date_are_left_out_where_unknown(facts: DatasetFacts) -> None:
    assert not {"url", "datePublished"} & croissant(facts).keys()
