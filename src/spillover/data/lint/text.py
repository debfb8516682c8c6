"""Characters that do not belong: control characters, traces of a wrong decoding, what cannot be seen, the canary."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from spillover.data.domains.base import CANARY
from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding, Severity, share

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff]")
# UTF-8 read as Windows-1252: an accented letter becomes two, a curly quote three.
_MOJIBAKE = re.compile(r"[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac|\ufffd")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")

Wrong = tuple[Severity, str, re.Pattern[str], str, str]
WRONG: tuple[Wrong, ...] = (
    ("error", "control-character", _CONTROL, "control character", "Remove it."),
    ("error", "canary-in-text", re.compile(re.escape(CANARY)), "the canary", "Keep it in the metadata alone."),
    ("warning", "mojibake", _MOJIBAKE, "trace of a wrong decoding", "Decode the source as UTF-8."),
    ("warning", "invisible", _INVISIBLE, "invisible character", "Remove it: a model sees it and you do not."),
)
EDGES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("begin with a newline", lambda text: text.startswith(("\n", "\r"))),
    ("begin with a space", lambda text: text.startswith((" ", "\t"))),
    ("end with a newline", lambda text: text.endswith(("\n", "\r"))),
    ("end with a space", lambda text: text.endswith((" ", "\t"))),
)


def check(data: Dataset) -> Iterator[Finding]:
    """Characters first, then white space at the ends."""
    for row in data.rows:
        for field, text in row.texts():
            for severity, code, pattern, what, mend in WRONG:
                if found := pattern.search(text):
                    where = f"{what} U+{ord(found[0][0]):04X} at {found.start()}"
                    yield Finding(severity, code, where, mend, (row.line,), field)
    for field in ("question", "answer"):
        for what, test in EDGES:
            lines = tuple(row.line for row in data.rows if test(getattr(row, field)))
            if lines:
                message = f"{share(len(lines), len(data.rows))} {what} in the {field}."
                mend = "Strip it: a model learns what goes along with such a mark."
                yield Finding("warning", "edge-whitespace", message, mend, lines, field)
