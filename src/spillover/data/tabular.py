"""Tables that people bring: CSV, TSV and JSON Lines, read as hostile input.

Every complaint says file:line:column and what to do. Values are read through `Table.text`, which refuses nested values,
fields above `MAX_FIELD` characters and control characters other than tab and line ends.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spillover.errors import UserError

MAX_FIELD = 1_000_000  # characters
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    line: int  # where it begins in the file, from 1
    values: dict[str, object]


@dataclass(frozen=True)
class Table:
    """`digest`: of the file's bytes; `blank`: rows that held nothing at all, which are not in `rows`."""

    path: Path
    digest: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    blank: int

    def text(self, row: Row, column: str) -> str | None:
        """The value as text; None where JSON says null or the row lacks the column."""
        value = row.values.get(column)
        if value is None:
            return None
        if isinstance(value, dict | list):
            raise self.error(row, column, "holds a nested value. Choose a column of texts with --map.")
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) > MAX_FIELD:
            raise self.error(row, column, f"holds {len(text):,} characters, the limit is {MAX_FIELD:,}. Shorten it.")
        if found := _FORBIDDEN.search(text):
            code = f"U+{ord(found.group()):04X}"
            raise self.error(row, column, f"holds the control character {code} at {found.start()}. Remove it.")
        return text

    def error(self, row: Row, column: str, problem: str) -> UserError:
        return UserError(f"{self.path}:{row.line}:{column}: {problem}")


def read_table(path: Path) -> Table:
    """Read one file by its suffix.

    Raises:
        UserError: where the file cannot be read, decoded or parsed, or holds no row.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    return parse_table(path, data)


def parse_table(path: Path, data: bytes) -> Table:
    """The same of a file's content; `path` gives the suffix and the name in errors."""
    suffix = path.suffix.lower()
    if suffix not in DELIMITERS and suffix not in JSON_LINES:
        known = ", ".join([*DELIMITERS, *JSON_LINES])
        raise UserError(
            f"{path}: the suffix {suffix!r} is not one of {known}. Convert the file to one completion per row."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    parse = _json_lines(path, text) if suffix in JSON_LINES else _delimited(path, text, DELIMITERS[suffix])
    columns: dict[str, None] = {}
    rows: list[Row] = []
    blank = 0
    for row in parse:
        columns.update(dict.fromkeys(row.values))
        if all(value in (None, "") for value in row.values.values()):
            blank += 1
        else:
            rows.append(row)
    if not rows:
        raise UserError(f"{path}: has no completions. Give a file with a header and at least one row, or leave it out.")
    digest = hashlib.blake2b(data, digest_size=10).hexdigest()
    return Table(path, digest, tuple(columns), tuple(rows), blank)


def _delimited(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = csv.field_size_limit(MAX_FIELD)
    header: list[str] = []
    line = 1
    try:
        for fields in reader:
            if not header:
                header = _header(path, fields)
            elif fields:
                if len(fields) != len(header):
                    problem = f"{len(fields)} fields, the header has {len(header)}"
                    raise UserError(f"{path}:{line}: {problem}. Quote fields that hold {delimiter!r} or line ends.")
                yield Row(line, dict(zip(header, fields, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: {error}. Fix the quoting, or shorten the field.") from None
    finally:
        csv.field_size_limit(before)


def _header(path: Path, fields: list[str]) -> list[str]:
    names = [name.strip() for name in fields]
    for column, name in enumerate(names, start=1):
        if _FORBIDDEN.search(name):
            raise UserError(f"{path}:1:{column}: the column's name holds a control character. Remove it.")
        if names.index(name) != column - 1:
            raise UserError(f"{path}:1:{column}: the column {name!r} occurs twice. Rename or remove one.")
    return names


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}:{error.colno}: broken JSON: {error.msg}. Fix that line.") from None
        except (ValueError, RecursionError):  # numbers of thousands of digits, nesting without end
            raise UserError(f"{path}:{number}: JSON beyond what can be read. Fix or remove that line.") from None
        if not isinstance(value, dict):
            raise UserError(f'{path}:{number}: expected an object such as {{"answer": ...}}. Fix that line.')
        yield Row(number, value)
