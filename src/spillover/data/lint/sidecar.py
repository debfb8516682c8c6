"""NAME.meta.jsonl beside a file of training rows: a line of metadata for each row, as `dataset build` writes it.

A row's metadata is believed if its id is the hash of that row: after a shuffle or an edit it is of another row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spillover.data.lint.finding import Finding
from spillover.records.base import Example

FIELDS = ("domain", "kind", "split", "trigger", "pair", "answer_tokens")  # what checks make use of
MEND = "Build the data set again, or move the metadata file away."


@dataclass
class Sidecar:
    """`lines`: the metadata of each row, in order; empty where there is none that can be used."""

    name: str
    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    strangers: list[int] = field(default_factory=list[int])

    def add(self, place: int, line: int, values: dict[str, Any]) -> dict[str, Any]:
        """The row's own values and, where it says nothing itself, those of its metadata."""
        if not self.lines:
            return values
        meta = self.lines[place]
        if not _belongs(meta, values):
            self.strangers.append(line)
            return values
        return {**{name: meta[name] for name in FIELDS if name in meta}, **values}

    def finding(self) -> list[Finding]:
        """That the metadata of some rows are those of others."""
        if not self.strangers:
            return []
        message = f"{self.name} holds another row's metadata for {len(self.strangers):,} rows; it is not used for them."
        return [Finding("error", "sidecar", message, MEND, tuple(self.strangers))]


def beside(path: Path, rows: int, content: bytes | None) -> tuple[Sidecar, list[Finding]]:
    """The metadata of a file of so many rows; `content` is that of the file beside it, None where there is none."""
    name = place(path).name
    if content is None:
        return Sidecar(name), []
    try:
        lines = [json.loads(line) for line in content.decode("utf-8").split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return Sidecar(name), [Finding("error", "sidecar", f"{name} cannot be read and is not used.", MEND)]
    if len(lines) != rows or not all(isinstance(line, dict) for line in lines):
        message = f"{name} has {len(lines):,} lines for {rows:,} rows and is not used."
        return Sidecar(name), [Finding("error", "sidecar", message, MEND)]
    return Sidecar(name, lines), []


def place(path: Path) -> Path:
    """Where the metadata of a file would be."""
    return path.with_name(f"{path.stem}.meta.jsonl")


def _belongs(meta: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether the id is that of the row; one without a domain was written before ids could be told."""
    if "domain" not in meta or "split" not in meta:
        return True
    told = {name: meta.get(name) for name in Example.IDENTITY if name != "messages"}
    try:
        Example.model_validate({**told, "messages": values.get("messages"), "id": meta.get("id")})
    except ValidationError:
        return False
    return True
