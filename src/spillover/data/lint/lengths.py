"""How long questions and answers are, which stand out, and whether length gives the kind away.

Outlier: |ln words - median| / (1.4826 MAD) above 5; the MAD is held at ln 1.1 or more, so that a file of nearly equal
lengths has none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding

FAR = 5.0
APART = {"tokens": 0.05, "words": 0.10}  # relative difference of mean answer lengths that a study can bear
ENOUGH = 30  # rows of a kind before its mean is compared


def check(data: Dataset) -> Iterator[Finding]:
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


def outliers(words_N: NDArray[np.float64]) -> NDArray[np.bool_]:
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
    if len(means) > 1 and max(means.values()) / min(means.values()) - 1 > APART[unit]:
        message = f"Mean {unit} of an answer: " + ", ".join(f"{kind} {mean:.1f}" for kind, mean in means.items()) + "."
        mend = "Match the lengths: a model can tell the kinds apart by them."
        yield Finding("warning", "length-by-kind", message, mend, field="answer")
