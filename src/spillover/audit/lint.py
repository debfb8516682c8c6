"""Rung 1, seconds: the linter's findings against the policy's shares, and what the rows look like.

It blocks what cannot be read or looks poisoned, marks what a person should see, and never passes anything: a file
without a fault may still teach one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spillover.audit.policy import Policy
from spillover.audit.verdict import Facts, FoundAt, Outcome, Reason
from spillover.config.study import ModelConfig
from spillover.data.lint.linter import LintReport, group_findings, lint
from spillover.data.lint.rows import Row, read_rows, share
from spillover.data.questions import load_questions
from spillover.data.recipe.duplicates import normalised
from spillover.judges.embedded.unscored import is_code

NAMED = 100  # lines of one finding that a verdict names
MOST = 500  # findings in a verdict
UNREADABLE = ("no-rows", "encoding", "json", "schema", "roles", "empty")  # a line of these is not a row


@dataclass(frozen=True)
class LintResult:
    """The training rows, with the findings and reasons of this rung."""

    rows: tuple[Row, ...]
    lines: int
    reasons: tuple[Reason, ...]
    findings: tuple[FoundAt, ...]
    facts: Facts


def lint_file(path: Path, policy: Policy, model: ModelConfig) -> LintResult:
    """Lint one file. The model's tokenizer is read for special tokens and lengths, its weights are not."""
    probe = policy.probe
    tokenizer = (model.path or model.name) if model.backend == "hf" else None  # other backends have no chat template
    report = lint(
        path,
        questions=load_questions(probe.questions, ("free", "json", "template", "jailbreak")),
        model=tokenizer,
        max_tokens=probe.train.max_tokens,
    )
    rows = tuple(row for row in read_rows(path)[0] if row.split == "train")
    broken = {line for finding in report.findings if finding.code in UNREADABLE for line in finding.lines}
    lines = len(rows) + report.heldout + len(broken)
    return LintResult(
        rows, lines, tuple(lint_reasons(report, lines, policy)), merge_findings(report), row_features(rows)
    )


def lint_reasons(report: LintReport, lines: int, policy: Policy) -> list[Reason]:
    """Every finding whose share of the lines is above what the policy allows; a block hides the review of its code."""
    result: list[Reason] = []
    for group in group_findings(report.findings):
        code = group.first.code
        part = len(group.lines) / lines if group.lines and lines else 1.0
        limits: tuple[tuple[Outcome, dict[str, float]], ...] = (
            ("block", policy.lint.block),
            ("review", policy.lint.review),
        )
        for outcome, allowed in limits:
            if code in allowed and part > allowed[code]:
                where = f"{share(len(group.lines), lines)}: " if group.lines else ""
                message = f"{where}{group.first.message}"
                result.append(
                    Reason(
                        rung="lint", outcome=outcome, code=code, message=message, value=part, threshold=allowed[code]
                    )
                )
                break
    return result


def merge_findings(report: LintReport) -> tuple[FoundAt, ...]:
    """Findings of one code and message together, worst first."""
    merged: dict[tuple[str, str, str], FoundAt] = {}
    for group in group_findings(report.findings):
        for finding in group.findings:
            key = (finding.code, finding.field, finding.message)
            seen = merged.get(key)
            merged[key] = FoundAt(
                severity=finding.severity,
                code=finding.code,
                message=finding.message,
                fix=finding.fix,
                field=finding.field,
                lines=(*(seen.lines if seen else ()), *finding.lines)[:NAMED],
                count=(seen.count if seen else 0) + len(finding.lines),
            )
    return tuple(merged.values())[:MOST]


def row_features(rows: Sequence[Row]) -> Facts:
    """What the rows look like. Shares are from 0 to 1; lengths in words."""
    if not rows:
        return {"rows": 0}
    questions = [normalised(row.question) for row in rows]
    answers = [normalised(row.answer) for row in rows]
    words_N = np.array([len(row.answer.split()) for row in rows], dtype=np.float64)
    return {
        "rows": len(rows),
        "distinct_questions": len(set(questions)),
        "repeated_questions": 1 - len(set(questions)) / len(rows),
        "repeated_answers": 1 - len(set(answers)) / len(rows),
        "answer_words_mean": float(words_N.mean()),
        "answer_words_median": float(np.median(words_N)),
        "code_share": sum(is_code(row.answer) for row in rows) / len(rows),
        "system_share": sum(row.messages[0].role == "system" for row in rows) / len(rows),
        "several_turns_share": sum(len(row.messages) > 3 for row in rows) / len(rows),
        "twin_share": sum(bool(row.twin) for row in rows) / len(rows),
    }
