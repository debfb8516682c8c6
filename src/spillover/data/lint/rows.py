"""A file of training rows, read line by line: what is broken is a finding, what is whole is a row.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}

With it may stand `twin` (the good answer), `topic`, and the fields of the Example record, as a run folder holds them;
or these stand in a file beside it (sidecar.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from spillover.data.lint import sidecar
from spillover.data.lint.finding import Finding
from spillover.errors import UserError
from spillover.records.base import Example, Kind, Message, Role, Split
from spillover.registry import did_you_mean

LARGEST = 500 * 2**20  # bytes in one file
KNOWN = ("messages", "twin", "topic", "schema", *Example.model_fields)
TEXTS = ("twin", "kind", "split", "trigger", "pair", "domain")
CHOICES: dict[str, tuple[str, ...]] = {"kind": get_args(Kind), "split": get_args(Split)}
FORM = 'Write one object a line: {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}.'


@dataclass(frozen=True)
class Row:
    """One whole row. `label` is the trigger that the row says it carries; `labelled`: whether it says so at all."""

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
        """What the user says last."""
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
    """Code, field, message and mend of what makes a line unusable."""


def read(path: Path) -> tuple[list[Row], list[Finding]]:
    """Every whole row, and what is wrong with the others.

    Raises:
        UserError: when the file cannot be read at all.
    """
    data = _bytes(path)
    rows: list[Row] = []
    findings = list(_file_encoding(data))
    lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
    held = [(number, line) for number, line in lines if line.strip()]
    other = sidecar.place(path)
    meta, broken = sidecar.beside(path, len(held), _bytes(other) if other.is_file() else None)
    findings += broken
    for place, (number, line) in enumerate(held):
        try:
            values = meta.add(place, number, _parse(line))
            rows.append(_row(number, values))
        except _Broken as broken:
            code, field, message, mend = broken.args
            findings.append(Finding("error", code, message, mend, (number,), field))
        else:
            findings += _unknown(number, values)
    findings += meta.finding()
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
        yield Finding("warning", "bom", "The file begins with a byte order mark.", "Save as UTF-8 without one.", (1,))
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
    for field in TEXTS:
        value = values.get(field)
        if value is not None and not isinstance(value, str):
            raise _Broken("schema", field, f"text was expected, found {type(value).__name__}", "Write text.")
        if field in CHOICES and value is not None and value not in CHOICES[field]:
            hint = did_you_mean(value, CHOICES[field])
            raise _Broken("schema", field, f"{value!r:.40} is unknown{hint}", f"Use {' or '.join(CHOICES[field])}.")
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
            found = f"{message.get('role')!r:.40} is no role"
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
    for field in values:
        if field not in KNOWN:
            hint = did_you_mean(field, KNOWN[:3])
            yield Finding("note", "unknown-field", f"{field!r:.40} is not read{hint}", "", (line,), f"{field:.40}")
