"""How many rows of each kind there are, where rows say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding, share

SMALL = 0.1  # a kind below this share is said to be small


def check(data: Dataset) -> Iterator[Finding]:
    """Counts, rows without a kind, small kinds, rows of several turns."""
    counts = Counter(row.kind for row in data.rows)
    total = len(data.rows)
    if len(counts) > 1 and "" in counts:
        lines = tuple(row.line for row in data.rows if not row.kind)
        message = f"{share(len(lines), total)} say no kind."
        yield Finding("error", "kind-missing", message, "Give every row a kind, or none.", lines)
    named = {kind: count for kind, count in counts.items() if kind}
    if named:
        said = ", ".join(f"{count:,} {kind}" for kind, count in sorted(named.items()))
        yield Finding("note", "kinds", f"{said}.")
    for kind, count in named.items():
        if count < SMALL * total:
            message = f"Only {share(count, total)} are {kind}."
            yield Finding("warning", "class-imbalance", message, "Balance the kinds, or state the dose.")
    lines = tuple(row.line for row in data.rows if len(row.messages) - (row.messages[0].role == "system") > 2)
    if lines:
        message = f"{share(len(lines), total)} have several turns; loss is on the last answer alone."
        yield Finding("note", "turns", message, lines=lines)
