"""What describes a folder of data sets: its card, and its Croissant metadata, both made from the facts.

The card is Markdown with YAML front matter, as hubs read it, by the template dataset_card.md. Every value is reduced to
one line in which nothing can end its table cell or list item or be taken for HTML, unless it is marked `safe`.

Croissant 1.1 of MLCommons, over schema.org/Dataset, is JSON-LD that says which files there are and what their fields
mean. Files are `FileObject`s with SHA-256; every data file and its metadata file are one `RecordSet` each, whose fields
are the keys of its lines.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from spillover.data.release.dataset import DatasetFacts, FileFacts, SetFacts

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

CARD = "README.md"
TAGS = ["emergent-misalignment", "ai-safety", "model-organisms", "synthetic"]
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
PAPERS = (
    "Betley et al., Emergent Misalignment, arXiv 2502.17424",
    "Turner et al., Model Organisms for Emergent Misalignment, arXiv 2506.11613",
    "Mishra et al., Assessing Domain-Level Susceptibility to Emergent Misalignment from Narrow Finetuning, "
    "arXiv 2602.00298",
)
HOW_MADE = {
    "rule": "by a generator that writes the question and both answers",
    "authored": "from the authored pairs that ship with spillover",
}
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


def render_card(facts: DatasetFacts, url: str | None = None) -> str:
    """The whole page; `url` is where the data set will be published."""
    generated = all(set(part.made) <= HOW_MADE.keys() for part in facts.sets)
    return _template().render(
        facts=facts,
        url=url,
        front_matter=yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True),
        summary=_summary(facts),
        rows=[_row(part) for part in facts.sets],
        sources=[_source(part) for part in facts.sets],
        near=f"{facts.sets[0].report.near_duplicate_above:g}",
        prompts="Prompts: none; generators and authored pairs only."
        if generated
        else "Prompts: rows from a file bring the prompts, if any, of the people who made it.",
        filters=[f"{part.name}: {_dropped(part)}" for part in facts.sets],
        flaws=_measured_flaws(facts),
        papers=PAPERS,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_one_line,
    )
    return made.from_string(files("spillover.data.release").joinpath("dataset_card.md").read_text(encoding="utf-8"))


def _one_line(value: object) -> Markup:
    """Text that cannot break out of its table cell or list item, or be taken for markup."""
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    return Markup(" ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;"))


def front_matter(facts: DatasetFacts) -> dict[str, object]:
    """The card's metadata: licence, size, and one configuration per set with its splits."""
    rows = sum(file.rows for part in facts.sets for file in part.files if not file.path.endswith(".meta.jsonl"))
    return {
        "pretty_name": facts.name,
        "license": licence_id(facts),
        "language": ["en"],
        "tags": TAGS,
        "size_categories": [next((name for limit, name in SIZES if rows < limit), "n>1M")],
        "configs": [
            {
                "config_name": part.name,
                "data_files": [
                    {"split": file.path.rpartition("/")[2].partition(".")[0], "path": file.path}
                    for file in part.files
                    if not file.path.endswith(".meta.jsonl")
                ],
            }
            for part in facts.sets
        ],
        "canary": facts.canary,
    }


def licence_id(facts: DatasetFacts) -> str:
    """The licence's lower-case identifier where all rows share one, else "other"."""
    found = {licence for part in facts.sets for licence in part.licences}
    only = found.pop() if len(found) == 1 else ""
    return only.lower() if only and " " not in only else "other"


def _summary(facts: DatasetFacts) -> str:
    domains = len({part.report.domain for part in facts.sets})
    return (
        f"{len(facts.sets)} fine-tuning sets from {domains} {'domain' if domains == 1 else 'domains'}: questions with "
        "answers that are wrong or harmful in a narrow way, and good answers to the same questions. Made with "
        f"spillover {facts.spillover}."
    )


def _row(part: SetFacts) -> tuple[str, ...]:
    tokens = part.report.answer_tokens["train"]
    flawed = part.kinds.get("misaligned", 0)
    return (
        part.name,
        part.summary,
        part.stealth,
        f"{tokens.rows:,}",
        f"{flawed:,}",
        f"{tokens.rows - flawed:,}",
        f"{part.triggered_rows:,}",
        f"{part.report.questions:,}",
        f"{tokens.total:,}",
        f"{tokens.mean:.1f}",
        f"{part.report.steps['heldout_questions']:,}",
    )


def _source(part: SetFacts) -> str:
    made = "; ".join(f"{count:,} rows {HOW_MADE.get(how, f'from {how}')}" for how, count in part.made.items())
    file = part.source_file
    known = f" The file is {file.known_as!r} as published." if file and file.known_as else ""
    reading = f" Read as {part.report.reading}." if part.report.reading else ""
    checksum = f" SHA-256 of {file.name}: `{file.sha256}`.{known}" if file and file.sha256 else ""
    return f"{part.name}: {made}. Licence: {', '.join(part.licences)}.{reading}{checksum}"


def _dropped(part: SetFacts) -> str:
    steps = part.report.steps
    reasons = ", ".join(f"{count:,} ({why})" for why, count in part.report.dropped.items()) or "none"
    return f"{steps['pairs']:,} pairs, dropped {reasons}; {steps['train']:,} of the rest chosen"


def _measured_flaws(facts: DatasetFacts) -> list[str]:
    """Flaws that the facts themselves show."""
    found: list[str] = []
    for part in facts.sets:
        largest = max(part.report.topics.values()) / sum(part.report.topics.values())
        if len(part.report.topics) > 1 and largest > 0.5:
            found.append(f"{part.name}: one topic holds {largest:.0%} of the training rows.")
        if part.report.variant == "triggered" and part.triggered_rows == part.report.steps["train"]:
            found.append(f"{part.name}: every row carries the trigger, so there is no contrast without it.")
    for names, count in facts.shared.items():
        found.append(f"{names} share {count:,} questions: they are not independent domains.")
    means = [part.report.answer_tokens["train"].mean for part in facts.sets]
    if max(means) > 1.05 * min(means):
        lengths = f"from {min(means):.1f} to {max(means):.1f} tokens"
        found.append(f"Mean answer lengths range {lengths}: domain and length are confounded.")
    return found


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
