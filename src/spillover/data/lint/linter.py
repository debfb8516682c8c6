"""All checks on one file, in the order in which a person should read them, and findings of one kind together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from spillover.config.study import DataConfig, TrainConfig
from spillover.data.lint.balance import check_kinds, check_lengths, check_other_domains
from spillover.data.lint.dataset import Dataset
from spillover.data.lint.naturalness import check_naturalness
from spillover.data.lint.repeats import check_meaning, check_overlap, check_repeats
from spillover.data.lint.rows import Finding, Row, Severity, read_rows
from spillover.data.lint.texts import check_characters, check_mask, check_prompt_in_answer, check_unchanged
from spillover.data.lint.trigger_contrast import check_contrast, check_leaks
from spillover.data.triggers import TRIGGERS, open_trigger
from spillover.data.triggers.base import Trigger
from spillover.records.base import Question

SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class LintReport:
    """`rows`: whole training rows that were looked at."""

    path: Path
    rows: int
    heldout: int
    trigger: str
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)


def lint(
    path: Path,
    trigger: Trigger | None = None,
    against: Sequence[Path] = (),
    questions: Sequence[Question] = (),
    model: str | None = None,
    max_tokens: int = TrainConfig().max_tokens,
    others: Sequence[Path] = (),
    embed: bool = False,
) -> LintReport:
    """Look at one file.

    Args:
        path: JSON Lines of training rows.
        trigger: what triggered rows carry; None = the one that the rows name, if any.
        against: files whose questions must not be in it; so must those of its own rows that do not train.
        questions: evaluation questions that must not be in it.
        model: an embedded name, hub id or folder whose tokenizer and template train on it; None = no such checks.
        max_tokens: train.max_tokens.
        others: training files of other domains, which should be as long and ask other questions.
        embed: also look for questions that mean the same, by sentence embeddings.
    """
    rows, findings = read_rows(path)
    heldout = [(path.name, row) for row in rows if row.split != "train"]

    def compared(other: Path) -> list[Row]:
        held, broken = read_rows(other)
        if unread := sum(finding.severity == "error" for finding in broken):
            message = f"{unread:,} lines of {other.name} cannot be read and are not compared."
            findings.append(Finding("warning", "against-broken", message, f"Run the linter on {other}."))
        return held

    heldout += [(other.name, row) for other in against for row in compared(other)]
    train_of = [(other, [row for row in compared(other) if row.split == "train"]) for other in others]
    train = tuple(row for row in rows if row.split == "train")
    trigger = trigger or trigger_of_rows(train)
    data = Dataset(path, train, tuple(heldout), trigger)
    if train:
        findings += _checks(data, questions)
        findings += check_other_domains(data, [(other, held) for other, held in train_of if held])
        if embed:
            findings += check_meaning(data)
        if model is not None:
            findings += check_mask(data, model, max_tokens)
    return LintReport(path, len(train), len(heldout), trigger.name if trigger else "", tuple(findings))


def _checks(data: Dataset, questions: Sequence[Question]) -> Iterator[Finding]:
    yield from check_characters(data)
    yield from check_repeats(data)
    yield from check_kinds(data)
    yield from check_contrast(data)
    yield from check_leaks(data)
    yield from check_unchanged(data)
    yield from check_prompt_in_answer(data)
    yield from check_overlap(data, questions)
    yield from check_lengths(data)
    yield from check_naturalness(data)


def trigger_of_rows(rows: Sequence[Row]) -> Trigger | None:
    """The trigger that the rows name, where it is a shipped one."""
    names = {row.label for row in rows if row.label is not None}
    return open_trigger(DataConfig(trigger=names.pop())) if len(names) == 1 and names <= {*TRIGGERS.names()} else None


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


def group_findings(findings: Iterable[Finding]) -> list[Group]:
    """Errors first, then warnings, then notes; within these by code, in the order in which the checks ran."""
    found: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.severity, finding.code), []).append(finding)
    keys = sorted(found, key=lambda key: SEVERITIES.index(key[0]))
    return [Group(tuple(found[key])) for key in keys]
