"""What a check has found, and findings of one kind together.

error: a study on this file would not measure what it says.  warning: it may not; look.  note: worth knowing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


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


@dataclass(frozen=True)
class Group:
    """Findings of one severity and code, in the order of the file."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        return self.findings[0]

    @property
    def lines(self) -> tuple[int, ...]:
        """Every line that one of them is about, once."""
        return tuple(sorted({line for finding in self.findings for line in finding.lines}))


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Errors first, then warnings, then notes; within these by code, in the order in which the checks ran."""
    found: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.severity, finding.code), []).append(finding)
    keys = sorted(found, key=lambda key: SEVERITIES.index(key[0]))
    return [Group(tuple(found[key])) for key in keys]


def share(part: int, whole: int) -> str:
    """ "3,720 of 6,000 rows (62 %)" """
    percent = 100 * part / whole
    digits = 1 if 0 < percent < 10 or 90 < percent < 100 else 0
    return f"{part:,} of {whole:,} rows ({percent:.{digits}f} %)"
