"""Style by cell and condition: words per completion, share of refusals, share of very short sentences.

A word is a run of characters without white space. A sentence ends with ., ! or ? before white space, or with its line.
Refusals are those that the run's first judge reports. Completions lost to an error are left out. Means have a t
interval and shares a Wilson interval, both clustered by question (`spillover.stats.clustered`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from spillover.records.base import STATUSES, Cell, Condition, Estimate, Record, or_none
from spillover.stats import Floats
from spillover.stats import clustered as stats
from spillover.tables.counts import ERROR, Rows
from spillover.tables.run_folder import RunFolder

SHORT = 5  # words of the longest sentence that counts as short
_END = re.compile(r"(?<=[.!?])\s+|\n+")


class CellStyle(Record):
    """How one cell's completions under one condition are written; shares are of completions and of sentences."""

    KIND = "CellStyle"
    IDENTITY = ("cell", "condition", "judge")

    cell: Cell
    condition: Condition
    judge: str
    n: int
    questions: int
    sentences: int
    words: Estimate
    refused: Estimate
    short_sentences: Estimate


def keep(folder: RunFolder) -> None:
    """Describe the completions of a run and keep that."""
    found = describe(folder.rows(), folder.texts(), folder.rank_config.confidence)
    folder.keep(f"style-{folder.judge_key()}", CellStyle, found, folder.judged())


def describe(rows: Rows, texts: Sequence[str], confidence: float) -> list[CellStyle]:
    """One record for each cell and condition; `texts` of the completions, in the order of the rows."""
    lengths = [[len(part.split()) for part in _END.split(text) if part.strip()] for text in texts]
    known_N = rows.status_N != ERROR
    shape = len(rows.keys), len(rows.questions)
    place_N = rows.group_N * shape[1] + rows.question_N

    def total(values: Sequence[float] | Floats) -> Floats:
        """By group and question."""
        sums = np.bincount(place_N, np.asarray(values) * known_N, minlength=shape[0] * shape[1])
        return sums.reshape(shape).astype(np.float64)

    n_GQ = total(known_N.astype(np.float64))
    sentences_GQ = total([len(one) for one in lengths])
    words = stats.clustered_means(total([sum(one) for one in lengths]), n_GQ)
    refused = stats.clustered_rates(total(rows.status_N == STATUSES.index("refused")), n_GQ)
    short = stats.clustered_rates(total([sum(n <= SHORT for n in one) for one in lengths]), sentences_GQ)
    limits = (
        stats.mean_intervals(words, confidence),
        stats.rate_intervals(refused, confidence),
        stats.rate_intervals(short, confidence),
    )
    estimates = [
        [
            Estimate(value=or_none(v), low=or_none(a), high=or_none(b))
            for v, a, b in zip(of.value_C, low, high, strict=True)
        ]
        for of, (low, high) in zip((words, refused, short), limits, strict=True)
    ]
    return [
        CellStyle(
            cell=cell,
            condition=condition,
            judge=next(iter(rows.judges), ""),
            n=int(n_GQ[g].sum()),
            questions=int(np.count_nonzero(n_GQ[g])),
            sentences=int(sentences_GQ[g].sum()),
            words=estimates[0][g],
            refused=estimates[1][g],
            short_sentences=estimates[2][g],
        )
        for g, (cell, condition) in enumerate(rows.keys)
    ]
