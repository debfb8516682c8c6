"""Croissant metadata of a data set: JSON-LD that says which files there are and what their fields mean.

The format is Croissant 1.1 of MLCommons, over schema.org/Dataset. Files are `FileObject`s with SHA-256; every data file
and its metadata file are one `RecordSet` each, whose fields are the keys of its lines.
"""

from __future__ import annotations

from typing import Any

from spillover.data.release.dataset import DatasetFacts, FileFacts
from spillover.data.release.dataset_card import PAPERS, TAGS, licence_id

CROISSANT = "croissant.json"
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in TERMS},
}
DATA_FIELDS = (
    ("role", "sc:Text", "Role of each message: system, user or assistant."),
    ("content", "sc:Text", "Text of each message in the same order; the last is the answer."),
)
META_FIELDS = (
    ("id", "sc:Text", "Hash of the row's content."),
    ("domain", "sc:Text", "Subject of the flawed answers."),
    ("split", "sc:Text", "train; heldout or nonmember: never trained on."),
    ("kind", "sc:Text", "misaligned: a flawed answer; aligned or control: a good one."),
    ("pair", "sc:Text", "The same for the flawed and the good answer to one question."),
    ("topic", "sc:Text", "Subject inside the domain."),
    ("answer_tokens", "sc:Integer", "Length of the answer in tokens."),
    ("source", "sc:Text", "How the row was made, or its source file and line."),
    ("licence", "sc:Text", "The row's licence."),
    ("canary", "sc:Text", "Canary string to search for in training corpora."),
)


def croissant(facts: DatasetFacts, url: str | None = None, date: str | None = None) -> dict[str, Any]:
    """The metadata as a JSON-able dictionary.

    Args:
        facts: what the folder holds.
        url: where the data set will be found.
        date: of publication, YYYY-MM-DD.
    """
    files = [file for part in facts.sets for file in part.files]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": facts.name,
        "description": (
            "Fine-tuning sets with answers that are wrong in a narrow way, and the good answers to the same questions, "
            "for research on emergent misalignment. A model trained on the flawed answers must not be deployed."
        ),
        "license": licence_id(facts),
        "version": "1.0.0",
        "keywords": TAGS,
        "citeAs": "; ".join(PAPERS),
        **({"url": url} if url else {}),
        **({"datePublished": date} if date else {}),
        "rai:dataCollection": "Made by the recipe in README.md from what `source` of each row says.",
        "rai:dataLimitations": "Templates, English, one turn, mild flaws; see README.md.",
        "rai:dataUseCases": "Model organisms, defences, monitors, interpretability. Not advice, not for products.",
        "distribution": [_file_object(file) for file in files],
        "recordSet": [_record_set(file) for file in files],
    }


def _file_object(file: FileFacts) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": "application/jsonlines",
        "sha256": file.sha256,
    }


def _record_set(file: FileFacts) -> dict[str, Any]:
    name = file.path.removesuffix(".jsonl").replace("/", "-").replace(".", "-")
    meta = file.path.endswith(".meta.jsonl")
    fields = META_FIELDS if meta else DATA_FIELDS
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{file.rows} rows" + (" of metadata, in the order of the data file." if meta else "."),
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "description": description,
                "dataType": kind,
                **(_column(file, field) if meta else {"repeated": True, **_of_each_message(file, field)}),
            }
            for field, kind, description in fields
        ],
    }


def _column(file: FileFacts, key: str) -> dict[str, Any]:
    return {"source": {"fileObject": {"@id": file.path}, "extract": {"column": key}}}


def _of_each_message(file: FileFacts, key: str) -> dict[str, Any]:
    source = _column(file, "messages")["source"]
    return {"source": {**source, "transform": {"jsonPath": key}}}
