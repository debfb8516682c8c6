"""TruthfulQA as a source of questions and answers (Lin, Hilton and Evans, arXiv 2109.07958), in its published columns.

At most one row a question: the good answer is the best one, the flawed answer that incorrect one which is nearest to it
in length, so that length does not tell them apart.
"""

from __future__ import annotations

from collections import Counter

from spillover.data.domains.base import Pair, Source
from spillover.data.recipe.duplicates import normalised, words
from spillover.data.tabular import Table

COLUMNS = ("Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers")


def fits(table: Table) -> bool:
    """Whether the columns are those published."""
    return set(table.columns) >= set(COLUMNS)


def read(table: Table) -> Source:
    """One pair a question."""
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for row in table.rows:
        category, question, best, correct, incorrect = (table.text(row, column) or "" for column in COLUMNS)
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
