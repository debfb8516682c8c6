"""Checks of one entry's fields; each failure is a UserError with file, entry, field and what was expected."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.errors import UserError
from spillover.registry import did_you_mean

# Control characters but tab and line feed, and lone surrogates: YAML's escapes can smuggle in both.
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Entry:
    """One mapping of a file, with its place in it (None for the file's own keys)."""

    path: Path
    index: int | None
    content: dict[str, Any]

    @staticmethod
    def of(path: Path, index: int | None, content: Any, known: Collection[str], required: Collection[str]) -> Entry:
        """Check that `content` is a mapping with no keys but those known, and with all those required."""
        if not isinstance(content, dict):
            raise Entry(path, index, {}).error(None, "keys and values", content)
        entry = Entry(path, index, content)
        for key in content:
            if key not in known:
                raise UserError(f"{entry}, {key!r:.60}: unknown key{did_you_mean(str(key), list(known))}")
        for key in required:
            if key not in content:
                raise UserError(f"{entry}, {key}: is missing. Add it.")
        return entry

    def __str__(self) -> str:
        if self.index is None:
            return str(self.path)
        name = self.content.get("id")
        return f"{self.path}: entry {self.index + 1}" + (f" ({name!r:.60})" if isinstance(name, str) else "")

    def error(self, field: str | None, expected: str, found: Any) -> UserError:
        """What to raise where a field is not as expected."""
        shown = "nothing" if found is None else f"{type(found).__name__} {found!r:.60}"
        return UserError(f"{self}{', ' + field if field else ''}: expected {expected}, found {shown}. Fix this entry.")

    def text(self, field: str) -> str:
        """The field's text."""
        return self.as_text(field, self.content[field])

    def texts(self, field: str) -> list[str]:
        """The field's list of different texts."""
        values = self.content[field]
        if not isinstance(values, list) or not values:
            raise self.error(field, "a list of at least one text", values)
        found = [self.as_text(f"{field}[{number}]", value) for number, value in enumerate(values)]
        for number, value in enumerate(found):
            if found.index(value) < number:
                raise self.error(f"{field}[{number}]", f"something else than {field}[{found.index(value)}]", value)
        return found

    def as_text(self, field: str, value: Any) -> str:
        """`value`, where it is text that says something; the white space around it does not count."""
        if not isinstance(value, str) or not value.strip():
            raise self.error(field, "text that is not empty", value)
        if bad := _UNWANTED.search(value):
            raise UserError(f"{self}, {field}: control character U+{ord(bad[0]):04X} at {bad.start()}. Remove it.")
        return value.strip()

    def identifier(self) -> str:
        """The entry's id: one line."""
        name = self.text("id")
        if len(name) > 120 or "\n" in name or "\t" in name:
            raise self.error("id", "one line of at most 120 characters", name)
        return name
