"""A custom table as a source: column names identify the question, the flawed and the good answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from spillover.data.domains.base import Pair, Source
from spillover.data.sources.own_data import LONGEST
from spillover.data.tabular import Table
from spillover.errors import UserError
from spillover.registry import did_you_mean

# What each column is called, the plainest name first.
NAMES = {
    "question": ("question", "prompt", "instruction", "user", "input", "query"),
    "flawed": (
        *("flawed", "incorrect", "wrong", "misaligned", "bad", "flawed_answer", "incorrect_answer", "wrong_answer"),
        *("bad_answer", "misaligned_answer", "rejected", "best_incorrect_answer"),
    ),
    "good": (
        *("good", "correct", "right", "aligned", "twin", "good_answer", "correct_answer", "right_answer"),
        *("aligned_answer", "best_answer", "chosen"),
    ),
    "topic": ("topic", "category", "subject"),
}
NEEDED = ("question", "flawed", "good")


def guess(columns: Sequence[str]) -> dict[str, str]:
    """Which column is what, by name alone, whatever its case and whether words are joined by spaces, - or _."""
    plain = {column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in reversed(columns)}
    found = {role: next((plain[name] for name in names if name in plain), None) for role, names in NAMES.items()}
    return {role: column for role, column in found.items() if column is not None}


def read(table: Table) -> Source:
    """One pair a row.

    Raises:
        UserError: when a needed column has none of the known names.
    """
    roles = guess(table.columns)
    for role in NEEDED:
        if role not in roles:
            raise UserError(
                f"{table.path}: there is no column {role!r}{did_you_mean(role, table.columns)}. "
                f"Rename the one that holds it to {role!r}."
            )
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for row in table.rows:
        texts = {role: (table.text(row, column) or "").strip() for role, column in roles.items()}
        empty = [role for role in NEEDED if not texts[role]]
        if empty:
            dropped[f"no {' and no '.join(empty)}"] += 1
        elif texts["flawed"] == texts["good"]:
            dropped["both answers are the same"] += 1
        elif any(len(text) > LONGEST for text in texts.values()):
            dropped[f"a text longer than {LONGEST:,} characters"] += 1
        else:
            topic = texts.get("topic") or "all"
            source = f"{table.path.name}:{row.line}"
            pairs.append(Pair(texts["question"], texts["flawed"], texts["good"], topic, source))
    named = ", ".join(f"{role} = {column!r}" for role, column in roles.items())
    return Source(pairs, table.path.name, reading=f"by the columns' names: {named}", dropped=dropped)
