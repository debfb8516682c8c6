"""A file beside the files of other domains: where sizes, lengths or questions differ, domains cannot be compared.

A domain with a third of the rows, or with each question eight times, differs in dose before it differs in subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding
from spillover.data.lint.rows import Row
from spillover.data.recipe.duplicates import normalised

APART = 0.05  # relative difference that a comparison can bear


def check(data: Dataset, others: Sequence[tuple[Path, Sequence[Row]]]) -> Iterator[Finding]:
    """Rows, distinct questions, mean answer words; then questions that both files ask."""
    if not others:
        return
    own = {normalised(sight.core) for sight in data.sights}
    counts = {str(data.path): _counts(data.rows, len(own))}
    for path, rows in others:
        asked = {normalised(data.core(row)) for row in rows}
        counts[str(path)] = _counts(rows, len(asked))
        if common := own & asked:
            lines = tuple(
                row.line for row, sight in zip(data.rows, data.sights, strict=True) if normalised(sight.core) in common
            )
            message = f"{len(common):,} of {len(own):,} questions are asked in {path}, too."
            yield Finding("error", "shared-question", message, "Ask each question in one domain.", lines, "question")
    for what, digits, code, mend in (
        ("rows", 0, "size-mismatch", "Cut every file to the same number of rows."),
        ("distinct questions", 0, "size-mismatch", "Cut every file to the same number of distinct questions."),
        ("mean words of an answer", 1, "length-mismatch", "Match the lengths: domain and length are confounded."),
    ):
        values = [count[what] for count in counts.values()]
        if max(values) > (1 + APART) * min(values):
            told = ", ".join(f"{name} {count[what]:,.{digits}f}" for name, count in counts.items())
            severity = "error" if code == "size-mismatch" else "warning"
            yield Finding(severity, code, f"Files differ in {what}: {told}.", mend)


def _counts(rows: Sequence[Row], questions: int) -> dict[str, float]:
    return {
        "rows": len(rows),
        "distinct questions": questions,
        "mean words of an answer": float(np.mean([len(row.answer.split()) for row in rows])),
    }
