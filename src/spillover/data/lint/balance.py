"""Counts and lengths: of rows by kind, of questions and answers, and compared with the files of other domains.

Length outlier: |ln words - median| / (1.4826 MAD) above 5; the MAD is held at ln 1.1 or more, so a file of nearly equal
lengths has none. Where kinds differ in length, length gives the kind away. Where files differ in rows, distinct
questions or length, domains cannot be compared: one with a third of the rows, or with each question eight times,
differs in dose before it differs in subject.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.rows import Finding, Row, share
from spillover.data.recipe.duplicates import normalised
from spillover.stats import Bools, Floats

SMALL = 0.1  # a kind below this share is reported
FAR = 5.0
APART_BY_KIND = {"tokens": 0.05, "words": 0.10}  # relative difference of mean answer lengths that a study can bear
ENOUGH = 30  # rows of a kind before its mean is compared
APART = 0.05  # relative difference between files that a comparison can bear


def check_kinds(data: Dataset) -> Iterator[Finding]:
    """Counts, rows without a kind, small kinds, rows of several turns."""
    counts = Counter(row.kind for row in data.rows)
    total = len(data.rows)
    if len(counts) > 1 and "" in counts:
        lines = tuple(row.line for row in data.rows if not row.kind)
        message = f"{share(len(lines), total)} have no kind."
        yield Finding("error", "kind-missing", message, "Give every row a kind, or none.", lines)
    named = {kind: count for kind, count in counts.items() if kind}
    if named:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(named.items()))
        yield Finding("note", "kinds", f"{listed}.")
    for kind, count in named.items():
        if count < SMALL * total:
            message = f"Only {share(count, total)} are {kind}."
            yield Finding("warning", "class-imbalance", message, "Balance the kinds, or state the dose.")
    lines = tuple(row.line for row in data.rows if len(row.messages) - (row.messages[0].role == "system") > 2)
    if lines:
        message = f"{share(len(lines), total)} have several turns; only the last answer carries loss."
        yield Finding("note", "turns", message, lines=lines)


def check_lengths(data: Dataset) -> Iterator[Finding]:
    """Distribution, outliers, and the means by kind."""
    for field in ("question", "answer"):
        words_N = np.array([len(getattr(row, field).split()) for row in data.rows], dtype=np.float64)
        low, median, high = np.quantile(words_N, [0.05, 0.5, 0.95])
        spread = f"median {median:.0f} words, 5 to 95 %: {low:.0f} to {high:.0f}, longest {words_N.max():,.0f}"
        yield Finding("note", "length", f"{field}: {spread}.", field=field)
        lines = tuple(data.rows[index].line for index in np.flatnonzero(outliers(words_N)))
        if lines:
            message = f"{len(lines):,} rows have a {field} far longer or shorter than the others (median {median:.0f})."
            yield Finding("warning", "length-outlier", message, "Read these rows.", lines, field)
    yield from _by_kind(data)


def outliers(words_N: Floats) -> Bools:
    """Which lengths are far from the median, on the log scale."""
    logs_N = np.log(np.maximum(words_N, 1.0))
    away_N = np.abs(logs_N - np.median(logs_N))
    return away_N / (1.4826 * max(float(np.median(away_N)), np.log(1.1))) > FAR


def _by_kind(data: Dataset) -> Iterator[Finding]:
    unit = "tokens" if all(row.answer_tokens for row in data.rows) else "words"
    lengths: dict[str, list[int]] = {}
    for row in data.rows:
        lengths.setdefault(row.kind, []).append(row.answer_tokens if unit == "tokens" else len(row.answer.split()))
    means = {kind: float(np.mean(counts)) for kind, counts in lengths.items() if kind and len(counts) >= ENOUGH}
    if len(means) > 1 and max(means.values()) / min(means.values()) - 1 > APART_BY_KIND[unit]:
        message = f"Mean {unit} of an answer: " + ", ".join(f"{kind} {mean:.1f}" for kind, mean in means.items()) + "."
        fix = "Match the lengths: they reveal the kind."
        yield Finding("warning", "length-by-kind", message, fix, field="answer")


def check_other_domains(data: Dataset, others: Sequence[tuple[Path, Sequence[Row]]]) -> Iterator[Finding]:
    """Rows, distinct questions, mean answer words; then questions that both files ask."""
    if not others:
        return
    own = set(data.questions)
    counts = {str(data.path): _counts(data.rows, len(own))}
    for path, rows in others:
        asked = {normalised(data.core(row)) for row in rows}
        counts[str(path)] = _counts(rows, len(asked))
        if common := own & asked:
            lines = tuple(row.line for row, asks in zip(data.rows, data.questions, strict=True) if asks in common)
            message = f"{len(common):,} of {len(own):,} questions are also asked in {path}."
            yield Finding("error", "shared-question", message, "Ask each question in one domain.", lines, "question")
    for what, digits, code, fix in (
        ("rows", 0, "size-mismatch", "Cut every file to the same number of rows."),
        ("distinct questions", 0, "size-mismatch", "Cut every file to the same number of distinct questions."),
        ("mean words of an answer", 1, "length-mismatch", "Match the lengths: domain and length are confounded."),
    ):
        values = [count[what] for count in counts.values()]
        if max(values) > (1 + APART) * min(values):
            listed = ", ".join(f"{name} {count[what]:,.{digits}f}" for name, count in counts.items())
            severity = "error" if code == "size-mismatch" else "warning"
            yield Finding(severity, code, f"Files differ in {what}: {listed}.", fix)


def _counts(rows: Sequence[Row], questions: int) -> dict[str, float]:
    return {
        "rows": len(rows),
        "distinct questions": questions,
        "mean words of an answer": float(np.mean([len(row.answer.split()) for row in rows])),
    }
