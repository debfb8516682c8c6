"""Training questions that are asked again in the evaluation: held-out rows and question sets.

Overlap: equal after normalising, or Jaccard |A & B| / |A | B| of the word 3-grams above the recipe's threshold t. A set
A that similar holds t|B| of B's grams or more, so one of any |B| - t|B| + 1 of them: each B looks up its rarest alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding
from spillover.data.recipe.duplicates import NEAR, grams, jaccard, normalised
from spillover.records.base import Question


def check(data: Dataset, questions: Sequence[Question]) -> Iterator[Finding]:
    """Against held-out rows by file, then against the evaluation questions."""
    train = [sight.core for sight in data.sights]
    lines = [row.line for row in data.rows]
    for name in dict.fromkeys(name for name, _ in data.heldout):
        texts = list(dict.fromkeys(data.core(row) for file, row in data.heldout if file == name))
        yield from _findings(train, lines, texts, f"held-out questions of {name}", "heldout")
    for name in dict.fromkeys(question.set_name for question in questions):
        texts = list(dict.fromkeys(question.text for question in questions if question.set_name == name))
        yield from _findings(train, lines, texts, f"evaluation questions of {name!r}", "evaluation")


def overlaps(texts: Sequence[str], others: Sequence[str]) -> tuple[dict[int, int], dict[int, int]]:
    """Indices of `texts` -> an index of `others` with the same, and with nearly the same, question."""
    exact = {normalised(text): index for index, text in reversed(list(enumerate(others)))}
    same = {index: exact[key] for index, text in enumerate(texts) if (key := normalised(text)) in exact}
    sets = [grams(text) for text in texts]
    frequency = Counter(gram for found in sets for gram in found)
    holders: dict[tuple[str, ...], list[int]] = {}
    for index, found in enumerate(sets):
        if index not in same:
            for gram in found:
                holders.setdefault(gram, []).append(index)
    near: dict[int, int] = {}
    for other, text in enumerate(others):
        wanted = grams(text)
        rarest = sorted(wanted, key=lambda gram: (frequency[gram], gram))
        prefix = rarest[: len(wanted) - math.ceil(NEAR * len(wanted)) + 1]
        for rival in {rival for gram in prefix for rival in holders.get(gram, ())}:
            if rival not in near and jaccard(wanted, sets[rival]) > NEAR:
                near[rival] = other
    return same, near


def _findings(
    train: Sequence[str], lines: Sequence[int], texts: Sequence[str], what: str, code: str
) -> Iterator[Finding]:
    same, near = overlaps(train, texts)
    for found, degree, suffix in ((same, "", ""), (near, "nearly ", "-near")):
        if found:
            asked = len(set(found.values()))
            message = f"{asked:,} of {len(texts):,} {what} are {degree}training questions, in {len(found):,} rows."
            where = tuple(lines[index] for index in sorted(found))
            mend = "Remove these rows from training, or ask something else."
            yield Finding("error", f"overlap-{code}{suffix}", message, mend, where, "question")
