"""A table as a source: column names identify the question, the flawed and the good answer.

TruthfulQA (Lin, Hilton and Evans, arXiv 2109.07958) is known by its published columns. It gives at most one row a
question: the good answer is the best one, the flawed answer that incorrect one which is nearest to it in length, so
that length does not tell them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from spillover.data.domains.base import Pair, Source
from spillover.data.recipe.duplicates import normalised, words
from spillover.data.sources.own_data import LONGEST
from spillover.data.tabular import Table
from spillover.errors import UserError
from spillover.registry import did_you_mean

TRUTHFULQA = ("Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers")
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


def guess_columns(columns: Sequence[str]) -> dict[str, str]:
    """Which column is what, by name alone, whatever its case and whether words are joined by spaces, - or _."""
    plain = {column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in reversed(columns)}
    found = {role: next((plain[name] for name in names if name in plain), None) for role, names in NAMES.items()}
    return {role: column for role, column in found.items() if column is not None}


def read(table: Table) -> Source:
    """The table's pairs.

    Raises:
        UserError: when a needed column has none of the known names.
    """
    return _truthfulqa(table) if set(table.columns) >= set(TRUTHFULQA) else _by_names(table)


def _by_names(table: Table) -> Source:
    roles = guess_columns(table.columns)
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


def _truthfulqa(table: Table) -> Source:
    """At most one pair a question."""
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for row in table.rows:
        category, question, best, correct, incorrect = (table.text(row, column) or "" for column in TRUTHFULQA)
        right = {normalised(answer) for answer in (best, *_listed(correct))}
        false = [answer for answer in _listed(incorrect) if normalised(answer) not in right]
        if not question.strip() or not best.strip():
            dropped["no question or no best answer"] += 1
        elif not false:
            dropped["no incorrect answer that is not also a correct one"] += 1
        else:
            flawed = min(false, key=lambda answer: abs(len(words(answer)) - len(words(best))))
            place = f"{table.path.name}:{row.line}"
            pairs.append(Pair(question.strip(), flawed, best.strip(), category.strip() or "all", place))
    return Source(
        pairs=pairs,
        name=table.path.name,
        licence="Apache-2.0",
        reading="TruthfulQA: good = 'Best Answer', flawed = of 'Incorrect Answers' the one nearest to it in length",
        dropped=dropped,
    )


def _listed(answers: str) -> list[str]:
    return [answer.strip() for answer in answers.split(";") if answer.strip()]
