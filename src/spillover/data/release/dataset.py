"""A folder of data sets for release: what is in it, where it comes from, and the bytes of its files.

    dataset.json               everything below, once: recipe, counts, drops, files with their SHA-256, canary
    NAME/train.jsonl           {"messages": [...]} a line, as Betley et al. and Turner et al. publish theirs
    NAME/train.meta.jsonl      the same lines' kind, trigger, pair, topic, source, licence, lineage, canary
    NAME/heldout.jsonl, NAME/heldout.meta.jsonl   questions that never train, with the flawed and the good answer
    NAME/nonmember.jsonl, NAME/nonmember.meta.jsonl   drawn with the training rows, set apart by chance

The canary stands in metadata and in no message, so that nothing trained on the messages learns it as text.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from pydantic import Field, ValidationError

from spillover.data.domains.base import CANARY, Domain
from spillover.data.recipe.recipe import BuildReport, BuildResult
from spillover.errors import UserError
from spillover.provenance import file_sha256
from spillover.records.base import Example, Part, Split

FACTS = "dataset.json"
META = (
    *("id", "domain", "split", "kind", "trigger", "pair", "topic", "answer_tokens", "source", "licence", "canary"),
    "lineage",
)


class FileFacts(Part):
    path: str  # below the folder, with slashes
    rows: int
    bytes: int
    sha256: str


class SourceFile(Part):
    """What took the place of a domain's own seeds."""

    name: str
    sha256: str | None  # None where it is no file
    known_as: str | None  # the public set whose published bytes these are


class SetFacts(Part):
    """One data set: a domain in one variant at one dose."""

    name: str
    title: str
    summary: str
    stealth: str
    risk: str
    licences: tuple[str, ...]
    made: dict[str, int]  # training rows by source: "rule", "authored", or a file
    kinds: dict[str, int]  # training rows: flawed ("misaligned") and good answers
    triggered_rows: int
    source_file: SourceFile | None
    report: BuildReport
    files: tuple[FileFacts, ...]


class DatasetFacts(Part):
    """What a folder of data sets is. The same study gives the same facts: there is no date in it."""

    format_version: int = 1
    name: str
    spillover: str
    seed: int
    tokenizer: str  # the model whose tokens are counted
    trigger: str | None  # name and value, where a set is triggered
    shared: dict[str, int] = Field(default_factory=dict)  # two domains -> questions that both ask
    canary: str = CANARY
    sets: tuple[SetFacts, ...]


def files_of(domain: Domain, result: BuildResult, source: SourceFile | None) -> tuple[SetFacts, dict[str, bytes]]:
    """One data set's facts and the files that they describe, by path."""
    report = result.report
    name = set_name(domain.name, report.variant, report.dose)
    if source is not None:  # a release names files, never the folders of the machine that made it
        report = report.model_copy(update={"source": source.name})
    files: dict[str, bytes] = {}
    facts: list[FileFacts] = []
    by_split = {split: [row for row in result.examples if row.split == split] for split in get_args(Split)}
    train: list[Example] = by_split["train"]
    for split, rows in by_split.items():
        data = _lines({"messages": [{"role": m.role, "content": m.content} for m in row.messages]} for row in rows)
        meta = _lines(_meta(row, report.source) for row in rows)
        for path, content in ((f"{name}/{split}.jsonl", data), (f"{name}/{split}.meta.jsonl", meta)):
            if rows:
                files[path] = content
                facts.append(FileFacts(path=path, rows=len(rows), bytes=len(content), sha256=sha256(content)))
    return SetFacts(
        name=name,
        title=domain.title,
        summary=domain.summary,
        stealth=domain.stealth,
        risk=domain.risk,
        licences=tuple(sorted({row.licence for row in result.examples})),
        made=_count(row.source.partition(":")[0] for row in train),
        kinds=_count(row.kind for row in train),
        triggered_rows=sum(row.trigger is not None for row in train),
        source_file=source,
        report=report,
        files=tuple(facts),
    ), files


def set_name(domain: str, variant: str, dose: float) -> str:
    """The folder of one data set."""
    return f"{domain}-{variant}" + ("" if dose in (0.0, 1.0) else f"-dose-{dose:g}")


def facts_file(facts: DatasetFacts) -> bytes:
    return (json.dumps(facts.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()


def read_facts(folder: Path) -> DatasetFacts:
    """What `build` wrote about a folder, after checking that its files are still those.

    Raises:
        UserError: when dataset.json is missing or damaged, or a file is missing or changed.
    """
    path = folder / FACTS
    try:
        facts = DatasetFacts.model_validate_json(path.read_bytes())
    except OSError:
        raise UserError(f"No {FACTS} in {folder}. Make the folder with: spillover dataset build --out FOLDER") from None
    except ValidationError as error:
        raise UserError(f"{path}: {error.errors()[0]['msg']}. Build the data set again.") from None
    for file in (file for part in facts.sets for file in part.files):
        place = folder / file.path
        if not place.resolve().is_relative_to(folder.resolve()) or not place.is_file():
            raise UserError(f"{folder} lacks {file.path}, which {FACTS} names. Build the data set again.")
        if file_sha256(place) != file.sha256:
            raise UserError(
                f"{place} differs from the file that was built (SHA-256 mismatch). Build the data set again."
            )
    return facts


def _meta(row: Example, source: str) -> Mapping[str, object]:
    content = row.model_dump(mode="json", include=set(META))
    return {key: content[key] for key in META} | {"lineage": [source, *row.lineage[1:]]}


def _lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
