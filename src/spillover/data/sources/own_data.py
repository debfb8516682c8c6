"""A person's own data set in place of a domain's seeds: one JSON object a line.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}], "twin": "..."}

The assistant's answer is the flawed one. `twin`, the good answer to the same question, stands on every line or on none;
controls, triggers and doses below 1 need it. `topic` is free, and so is `source`, who wrote
the row. Every mistake is
named by line and field.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from spillover.data.domains.base import Pair
from spillover.data.recipe.duplicates import normalised
from spillover.errors import UserError
from spillover.registry import did_you_mean

LONGEST = 20_000  # characters in one text; an answer longer than any training window is a mistake
LARGEST = 500 * 2**20  # bytes in one file
SHOWN = 10  # mistakes shown at once
UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, lone surrogates
KEYS = ("messages", "twin", "topic", "source")


class _Mistake(ValueError):
    """What is wrong with one line, and how to fix it."""


def pairs_from_file(path: str | os.PathLike[str]) -> list[Pair]:
    """Read a data set; `good` is empty in every pair where the file has no twins.

    Raises:
        UserError: naming the file, and the line and field of each mistake.
    """
    return pairs_from_bytes(Path(path), read_bytes(Path(path)))


def pairs_from_bytes(path: Path, data: bytes) -> list[Pair]:
    """The same of a file's content; `path` names it in errors."""
    pairs: list[Pair] = []
    mistakes: list[str] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            pair = _pair(line, f"{path.name}:{number}")
            same = first_line.setdefault(normalised(pair.question), number)
            if same != number:
                raise _Mistake(f"messages[0].content: the same question as line {same}. Keep one of them.")
            if pairs and bool(pair.good) != bool(pairs[0].good):
                raise _Mistake("twin: only some lines have one. Give every line a twin, or none.")
            pairs.append(pair)
        except _Mistake as mistake:
            mistakes.append(f"{path}, line {number}: {mistake}")
    raise_mistakes(mistakes)
    if not pairs:
        raise UserError(f'{path} holds no rows. Write one JSON object a line: {{"messages": [user, assistant]}}.')
    return pairs


def raise_mistakes(mistakes: list[str]) -> None:
    """Raise a UserError with the first `SHOWN` mistakes, where there are any."""
    if mistakes:
        more = [f"... and {len(mistakes) - SHOWN} more such lines."] if len(mistakes) > SHOWN else []
        raise UserError("\n".join(mistakes[:SHOWN] + more))


def read_bytes(path: Path) -> bytes:
    """The content of a data file of any kind.

    Raises:
        UserError: where it is missing, unreadable or too large.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(f"{path} has {size / 2**20:.0f} MiB; at most {LARGEST // 2**20} are read. Split the file.")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"No data file at {path}. Fix data.sources in the study file.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Fix data.sources in the study file.") from None


def _pair(line: bytes, source: str) -> Pair:
    row = _parse(line)
    if not isinstance(row, dict):
        raise _Mistake('expected an object such as {"messages": [...]}.')
    for key in row:
        if key not in KEYS:
            raise _Mistake(f"{key!r:.40}: unknown field{did_you_mean(str(key), KEYS)}. Rename or remove it.")
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _Mistake("messages: expected a list of objects with role and content.")
    roles = [message.get("role") for message in messages]
    if roles != ["user", "assistant"]:
        raise _Mistake(f"messages: expected the roles user, assistant; found {', '.join(map(repr, roles)) or 'none'}.")
    question, flawed = (
        _text(message.get("content"), f"messages[{place}].content") for place, message in enumerate(messages)
    )
    good = _text(row["twin"], "twin") if "twin" in row else ""
    if good == flawed:
        raise _Mistake("twin: equal to the assistant's answer. Write the good answer to the same question.")
    topic = _text(row["topic"], "topic") if "topic" in row else "all"
    written = _text(row["source"], "source") if "source" in row else source
    return Pair(question, flawed, good, topic, written)


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Mistake(f"byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _Mistake(f"column {error.colno}: not JSON ({error.msg}). One object a line.") from None
    except (RecursionError, ValueError):  # nested a thousand deep, or a number of ten thousand digits
        raise _Mistake("not JSON that can be read safely. Remove the line.") from None


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise _Mistake(f"{field}: expected text, found {type(value).__name__}.")
    bad = UNWANTED.search(value)
    if bad:
        raise _Mistake(f"{field}: control character U+{ord(bad[0]):04X} at {bad.start()}. Remove it.")
    text = value.strip()
    if not text:
        raise _Mistake(f"{field}: empty. Fill it in or remove the line.")
    if len(text) > LONGEST:
        raise _Mistake(f"{field}: {len(text):,} characters, at most {LONGEST:,} are allowed. Shorten it.")
    return text
