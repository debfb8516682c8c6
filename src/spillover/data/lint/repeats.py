"""Questions that are asked twice: within the training rows, and again in the evaluation.

Repetition is an undeclared dose, and it differs between files. Questions are compared without the trigger, those with
it and those without it separately, so a question may occur once on either side of the contrast. Near-duplicate: as the
recipe defines it, Jaccard similarity of word 3-grams; and, on request, the cosine of sentence embeddings, which sees
the same meaning in other words.

Overlap with held-out rows and question sets: equal after normalising, or a near-duplicate by word 3-grams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.rows import Finding, share
from spillover.data.recipe.duplicates import (
    NEAR,
    NEAR_COSINE,
    find_overlaps,
    near_duplicates,
    near_duplicates_in_meaning,
)
from spillover.records.base import Question

FEW = 0.01  # repeated questions up to this share are a warning, above it an error
FEW_NEAR = 0.05


def check_repeats(data: Dataset) -> Iterator[Finding]:
    """Whole rows, then questions, then nearly the same questions."""
    total = len(data.rows)
    contents = [tuple((message.role, message.content.strip()) for message in row.messages) for row in data.rows]
    if copies := _again(data, contents):
        message = f"{share(len(copies), total)} are copies of an earlier row."
        yield Finding("error", "duplicate-row", message, "Keep one of each.", copies)

    keys = [(match.carries, question) for match, question in zip(data.matches, data.questions, strict=True)]
    if repeats := _again(data, keys):
        counts = Counter(keys)
        without = "" if data.trigger is None else ", ignoring the trigger"
        message = (
            f"Only {len(counts):,} distinct questions in {total:,} rows{without}: {total / len(counts):.1f} rows a "
            f"question, at most {max(counts.values()):,}."
        )
        fix = "Ask each question once, or cut every file to the same number of distinct questions."
        severity = "error" if len(repeats) > FEW * total else "warning"
        yield Finding(severity, "repeated-question", message, fix, repeats, "question")
    what = f"nearly repeat the question of another row (similarity above {NEAR:g})"
    yield from _alike(data, near_duplicates, "near-duplicate", what)


def check_meaning(data: Dataset) -> Iterator[Finding]:
    """Questions that mean what another means, by the embedded sentence encoder."""
    what = f"paraphrase the question of another row (cosine above {NEAR_COSINE:g})"
    yield from _alike(data, near_duplicates_in_meaning, "same-meaning", what)


def _again(data: Dataset, keys: Sequence[Hashable]) -> tuple[int, ...]:
    """The lines of the rows whose key an earlier row has too."""
    first: dict[Hashable, int] = {}
    return tuple(data.rows[place].line for place, key in enumerate(keys) if first.setdefault(key, place) != place)


def _alike(data: Dataset, find: Callable[[list[str]], list[int]], code: str, what: str) -> Iterator[Finding]:
    """Distinct questions that `find` takes for an earlier one on the same side of the contrast."""
    near: list[int] = []
    for side in (True, False):
        first: dict[str, int] = {}
        for place, (match, question) in enumerate(zip(data.matches, data.questions, strict=True)):
            if match.carries == side:
                first.setdefault(question, place)
        places = list(first.values())
        near += [data.rows[places[index]].line for index in find([data.matches[place].core for place in places])]
    if near:
        severity = "error" if len(near) > FEW_NEAR * len(data.rows) else "warning"
        message = f"{share(len(near), len(data.rows))} {what}."
        yield Finding(severity, code, message, "Keep one of each.", tuple(sorted(near)), "question")


def check_overlap(data: Dataset, questions: Sequence[Question]) -> Iterator[Finding]:
    """Against held-out rows by file, then against the evaluation questions."""
    train = [match.core for match in data.matches]
    lines = [row.line for row in data.rows]
    for name in dict.fromkeys(name for name, _ in data.heldout):
        texts = list(dict.fromkeys(data.core(row) for file, row in data.heldout if file == name))
        yield from _findings(train, lines, texts, f"held-out questions of {name}", "heldout")
    for name in dict.fromkeys(question.set_name for question in questions):
        texts = list(dict.fromkeys(question.text for question in questions if question.set_name == name))
        yield from _findings(train, lines, texts, f"evaluation questions of {name!r}", "evaluation")


def _findings(
    train: Sequence[str], lines: Sequence[int], texts: Sequence[str], what: str, code: str
) -> Iterator[Finding]:
    same, near = find_overlaps(train, texts)
    for found, degree, suffix in ((same, "", ""), (near, "nearly ", "-near")):
        if found:
            asked = len(set(found.values()))
            message = f"{asked:,} of {len(texts):,} {what} are {degree}training questions, in {len(found):,} rows."
            where = tuple(lines[index] for index in sorted(found))
            fix = "Remove these rows from training, or change the questions."
            yield Finding("error", f"overlap-{code}{suffix}", message, fix, where, "question")
