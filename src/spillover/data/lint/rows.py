"""A file of training rows, read line by line: what is broken is a finding, what is whole is a row.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}

A line may also hold `twin` (the good answer), `topic`, and the fields of the Example record, as in a run folder. Or the
fields are in NAME.meta.jsonl in the same folder, one line for each row, as `dataset build` writes it. A row's metadata
is believed if its id is the hash of that row: after a shuffle or an edit it belongs to another row.

A finding is an error (a study on this file would not measure what it says), a warning (it may not; look) or a note
(worth knowing).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from spillover.errors import UserError
from spillover.records.base import Example, Kind, Message, Role, Split
from spillover.registry import did_you_mean

Severity = Literal["error", "warning", "note"]
LARGEST = 500 * 2**20  # bytes in one file
KNOWN = ("messages", "twin", "topic", "schema", *Example.model_fields)
TEXTS = ("twin", "kind", "split", "trigger", "pair", "domain")
CHOICES: dict[str, tuple[str, ...]] = {"kind": get_args(Kind), "split": get_args(Split)}
FORM = 'Write one object a line: {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}.'
META_FIELDS = ("domain", "kind", "split", "trigger", "pair", "answer_tokens")  # what checks use
REBUILD = "Build the data set again, or move the metadata file away."


@dataclass(frozen=True)
class Finding:
    """`lines` says where, counted from 1; none when the file as a whole is meant."""

    severity: Severity
    code: str
    message: str
    fix: str = ""
    lines: tuple[int, ...] = ()
    field: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding with its first line and its number of lines."""
        return asdict(self) | {"line": self.lines[0] if self.lines else None, "count": len(self.lines)}


def share(part: int, whole: int) -> str:
    """ "3,720 of 6,000 rows (62 %)" """
    percent = 100 * part / whole
    digits = 1 if 0 < percent < 10 or 90 < percent < 100 else 0
    return f"{part:,} of {whole:,} rows ({percent:.{digits}f} %)"


@dataclass(frozen=True)
class Row:
    """One whole row. `label`: the trigger that the row is labelled with; `labelled`: whether it has the field."""

    line: int
    messages: tuple[Message, ...]
    twin: str = ""
    kind: str = ""
    split: str = "train"
    label: str | None = None
    labelled: bool = False
    pair: str = ""
    answer_tokens: int = 0

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def question(self) -> str:
        """The user's last message."""
        return self.messages[-2].content

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    def texts(self) -> Iterator[tuple[str, str]]:
        """(field, text) of everything that people or models read."""
        for place, message in enumerate(self.messages):
            yield f"messages[{place}].content", message.content
        if self.twin:
            yield "twin", self.twin


class _Broken(ValueError):
    """Code, field, message and fix of what makes a line unusable."""


def read_rows(path: Path) -> tuple[list[Row], list[Finding]]:
    """Every whole row, and what is wrong with the others.

    Raises:
        UserError: when the file cannot be read at all.
    """
    data = _bytes(path)
    rows: list[Row] = []
    findings = list(_file_encoding(data))
    lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
    held = [(number, line) for number, line in lines if line.strip()]
    sidecar = path.with_name(f"{path.stem}.meta.jsonl")
    meta, broken = _sidecar(sidecar, len(held))
    findings += broken
    mismatched: list[int] = []
    for index, (number, line) in enumerate(held):
        try:
            values = _parse(line)
            if meta and not _belongs(meta[index], values):
                mismatched.append(number)
            elif meta:
                values = {**{name: meta[index][name] for name in META_FIELDS if name in meta[index]}, **values}
            rows.append(_row(number, values))
        except _Broken as broken:
            code, field, message, fix = broken.args
            findings.append(Finding("error", code, message, fix, (number,), field))
        else:
            findings += _unknown(number, values)
    if mismatched:
        message = f"{sidecar.name} has the metadata of other rows for {len(mismatched):,} rows; these are ignored."
        findings.append(Finding("error", "sidecar", message, REBUILD, tuple(mismatched)))
    if not rows and not findings:
        findings.append(Finding("error", "no-rows", "The file holds no rows.", FORM))
    return rows, findings


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is larger than {LARGEST // 2**20} MiB. Split the file.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None


def _file_encoding(data: bytes) -> Iterator[Finding]:
    if data.startswith(b"\xef\xbb\xbf"):
        yield Finding(
            "warning", "bom", "The file begins with a byte order mark.", "Save the file as UTF-8 without it.", (1,)
        )
    if data.count(b"\r\n"):
        yield Finding("note", "crlf", "Lines end in carriage return and line feed.", "Save with line feeds.")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line.decode("utf-8"), object_pairs_hook=_once)
    except _Broken:
        raise
    except UnicodeDecodeError as error:
        raise _Broken("encoding", "", f"byte {error.start} is not UTF-8", "Save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _Broken("json", "", f"column {error.colno}: {error.msg}", FORM) from None
    except (RecursionError, ValueError):  # nested a thousand deep, or a number of ten thousand digits
        raise _Broken("json", "", "JSON that cannot be read safely", "Remove the line.") from None
    if not isinstance(values, dict):
        raise _Broken("schema", "", f"an object was expected, found {type(values).__name__}", FORM)
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Broken("json", f"{twice:.40}", "the same key twice in one object", "Keep one of them.")
    return values


def _row(line: int, values: dict[str, Any]) -> Row:
    for key in TEXTS:
        value = values.get(key)
        if value is not None and not isinstance(value, str):
            raise _Broken("schema", key, f"text was expected, found {type(value).__name__}", "Write text.")
        if key in CHOICES and value is not None and value not in CHOICES[key]:
            hint = did_you_mean(value, CHOICES[key])
            raise _Broken("schema", key, f"{value!r:.40} is unknown{hint}", f"Use {' or '.join(CHOICES[key])}.")
    tokens = values.get("answer_tokens")
    return Row(
        line,
        _messages(values.get("messages")),
        twin=values.get("twin") or "",
        kind=values.get("kind") or "",
        split=values.get("split") or "train",
        label=values.get("trigger"),
        labelled="trigger" in values,
        pair=values.get("pair") or "",
        answer_tokens=tokens if isinstance(tokens, int) else 0,
    )


def _messages(given: Any) -> tuple[Message, ...]:
    if not isinstance(given, list):
        raise _Broken("schema", "messages", f"a list was expected, found {type(given).__name__}", FORM)
    for place, message in enumerate(given):
        field = f"messages[{place}]"
        if not isinstance(message, dict):
            raise _Broken("schema", field, f"an object was expected, found {type(message).__name__}", FORM)
        if message.get("role") not in get_args(Role):
            found = f"{message.get('role')!r:.40} is not a role"
            raise _Broken("roles", f"{field}.role", found, f"Use {', '.join(get_args(Role))}.")
        content = message.get("content")
        if not isinstance(content, str):
            raise _Broken(
                "schema", f"{field}.content", f"text was expected, found {type(content).__name__}", "Write text."
            )
        if not content.strip():
            raise _Broken("empty", f"{field}.content", "empty", "Fill it in or remove the line.")
    roles = [message["role"] for message in given]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
        found = ", ".join(roles) or "no message"
        raise _Broken("roles", "messages", f"found {found}", "Begin with the user, take turns, end with the assistant.")
    return tuple(Message(role=message["role"], content=message["content"]) for message in given)


def _unknown(line: int, values: dict[str, Any]) -> Iterator[Finding]:
    for key in values:
        if key not in KNOWN:
            hint = did_you_mean(key, KNOWN[:3])
            yield Finding("note", "unknown-field", f"{key!r:.40} is not read{hint}", "", (line,), f"{key:.40}")


def _sidecar(path: Path, rows: int) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The metadata of each of so many rows; none if the file is missing or cannot be used."""
    if not path.is_file():
        return [], []
    try:
        lines = [json.loads(line) for line in _bytes(path).decode("utf-8").split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return [], [Finding("error", "sidecar", f"{path.name} cannot be read and is not used.", REBUILD)]
    if len(lines) != rows or not all(isinstance(line, dict) for line in lines):
        message = f"{path.name} has {len(lines):,} lines for {rows:,} rows and is not used."
        return [], [Finding("error", "sidecar", message, REBUILD)]
    return lines, []


def _belongs(meta: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether the id is that of the row; one without a domain is from before ids were checked."""
    if "domain" not in meta or "split" not in meta:
        return True
    identity = {name: meta.get(name) for name in Example.IDENTITY if name != "messages"}
    try:
        Example.model_validate({**identity, "messages": values.get("messages"), "id": meta.get("id")})
    except ValidationError:
        return False
    return True
