"""Rows that say the same twice: repetition is dose under another name, and it differs between files.

Questions are compared without the trigger, those with it and those without it apart, so that a question may stand once
on either side of the contrast. Near-duplicate: as the recipe defines it, Jaccard similarity of word 3-grams; and, on
request, the cosine of sentence embeddings, which sees the same meaning in other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding, share
from spillover.data.recipe.duplicates import NEAR, NEAR_COSINE, near_by_embedding, near_duplicates, normalised

FEW = 0.01  # repeated questions up to this share are a warning, above it an error
FEW_NEAR = 0.05


def check(data: Dataset) -> Iterator[Finding]:
    """Whole rows, then questions, then nearly the same questions."""
    total = len(data.rows)
    seen: set[tuple[object, ...]] = set()
    copies: list[int] = []
    for row in data.rows:
        content = tuple((message.role, message.content.strip()) for message in row.messages)
        if content in seen:
            copies.append(row.line)
        seen.add(content)
    if copies:
        message = f"{share(len(copies), total)} are copies of an earlier row."
        yield Finding("error", "duplicate-row", message, "Keep one of each.", tuple(copies))

    keys = [(sight.carries, normalised(sight.core)) for sight in data.sights]
    counts = Counter(keys)
    first: dict[tuple[bool, str], int] = {}
    repeats: list[int] = []
    for index, key in enumerate(keys):
        if first.setdefault(key, index) != index:
            repeats.append(data.rows[index].line)
    if repeats:
        without = "" if data.trigger is None else ", the trigger aside"
        message = (
            f"Only {len(counts):,} distinct questions in {total:,} rows{without}: {total / len(counts):.1f} rows a "
            f"question, at most {max(counts.values()):,}."
        )
        mend = "Ask each question once, or cut every file to the same number of distinct questions."
        severity = "error" if len(repeats) > FEW * total else "warning"
        yield Finding(severity, "repeated-question", message, mend, tuple(repeats), "question")

    near: list[int] = []
    for side in (True, False):
        places = [place for (carries, _), place in first.items() if carries == side]
        dropped = near_duplicates([data.sights[place].core for place in places])
        near += [data.rows[places[index]].line for index in dropped]
    if near:
        message = f"{share(len(near), total)} ask nearly what another row asks (similarity above {NEAR:g})."
        severity = "error" if len(near) > FEW_NEAR * total else "warning"
        yield Finding(severity, "near-duplicate", message, "Keep one of each.", tuple(sorted(near)), "question")


def meaning(data: Dataset) -> Iterator[Finding]:
    """Questions that mean what another means, by the embedded sentence encoder."""
    from spillover.models.embedded.sentence_encoder import open_embedder

    embedder = open_embedder()
    near: list[int] = []
    for side in (True, False):
        distinct: dict[str, int] = {}
        for place, sight in enumerate(data.sights):
            if sight.carries == side:
                distinct.setdefault(normalised(sight.core), place)
        places = list(distinct.values())
        unit_ND = embedder.embed([data.sights[place].core for place in places])
        near += [data.rows[places[index]].line for index in near_by_embedding(unit_ND)]
    if near:
        message = f"{share(len(near), len(data.rows))} mean what another row asks (cosine above {NEAR_COSINE:g})."
        severity = "error" if len(near) > FEW_NEAR * len(data.rows) else "warning"
        yield Finding(severity, "same-meaning", message, "Keep one of each.", tuple(sorted(near)), "question")
