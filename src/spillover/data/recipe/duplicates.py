"""Which questions are the same: equal after normalising, or sharing most of their word 3-grams.

Near-duplicate: Jaccard |A & B| / |A | B| of the two sets of word 3-grams, padded at both ends, above `NEAR`. Exact, not
sampled; the prefix filter of set-similarity joins (Chaudhuri, Ganti and Kaushik, ICDE 2006) keeps it from comparing
every pair: two sets that similar must share one of their few rarest grams. The same meaning in other words: cosine of
the questions' embeddings above `NEAR_COSINE`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NEAR = 0.8  # above this, two questions are near-duplicates
NEAR_COSINE = 0.95  # above this, of embeddings at unit norm
BLOCK = 1024  # rows compared at once; bounds the memory, not the result

Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Lower-case words and numbers, without punctuation, in compatibility form."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def normalised(text: str) -> str:
    """What is equal for two wordings of the same question."""
    return " ".join(words(text)) or text.strip()


def grams(text: str) -> frozenset[Gram]:
    """The set of word 3-grams, with two blanks before and after the text."""
    padded = ["", "", *(words(text) or [text.strip()]), "", ""]
    return frozenset(tuple(padded[start : start + 3]) for start in range(len(padded) - 2))


def jaccard(one: frozenset[Gram], other: frozenset[Gram]) -> float:
    """Shared share of two sets, 0 to 1."""
    return len(one & other) / len(one | other)


def near_duplicates(texts: Sequence[str], threshold: float = NEAR) -> list[int]:
    """Indices of the texts that are near-duplicates of an earlier text that was kept, in order."""
    sets = [grams(text) for text in texts]
    frequency = Counter(gram for found in sets for gram in found)
    holders: dict[Gram, list[int]] = {}
    dropped: list[int] = []
    for index, found in enumerate(sets):
        rarest = sorted(found, key=lambda gram: (frequency[gram], gram))
        prefix = rarest[: len(found) - math.ceil(threshold * len(found)) + 1]
        rivals = {rival for gram in prefix for rival in holders.get(gram, ())}
        if any(jaccard(found, sets[rival]) > threshold for rival in rivals):
            dropped.append(index)
            continue
        for gram in prefix:
            holders.setdefault(gram, []).append(index)
    return dropped


def find_overlaps(texts: Sequence[str], others: Sequence[str]) -> tuple[dict[int, int], dict[int, int]]:
    """Indices of `texts` -> an index of `others` with the same question, and with a near-duplicate.

    A set A that is near B holds a share `NEAR` of B's grams or more, so one of any |B| - NEAR |B| + 1 of them: each B
    looks up its rarest alone.
    """
    exact = {normalised(text): index for index, text in reversed(list(enumerate(others)))}
    same = {index: exact[key] for index, text in enumerate(texts) if (key := normalised(text)) in exact}
    sets = [grams(text) for text in texts]
    frequency = Counter(gram for found in sets for gram in found)
    holders: dict[Gram, list[int]] = {}
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


class KnownTexts:
    """A set of known texts: `text in KnownTexts(texts)` where one of them contains it or is near it."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._sets = [grams(text) for text in texts]
        self._holders: dict[Gram, list[int]] = {}
        for index, found in enumerate(self._sets):
            for gram in found:
                self._holders.setdefault(gram, []).append(index)
        self._together = "\n".join(f" {normalised(text)} " for text in texts)

    def __contains__(self, text: str) -> bool:
        found = grams(text)
        rivals = {rival for gram in found for rival in self._holders.get(gram, ())}
        near = any(jaccard(found, self._sets[rival]) > NEAR for rival in rivals)
        return near or f" {normalised(text)} " in self._together


def near_duplicates_in_meaning(texts: list[str]) -> list[int]:
    """Indices of the texts that mean what an earlier text that was kept means, by the embedded sentence encoder."""
    from spillover.models.embedded.sentence_encoder import open_embedder

    return near_by_embedding(open_embedder().embed(texts))


def near_by_embedding(unit_ND: NDArray[np.float32], threshold: float = NEAR_COSINE) -> list[int]:
    """Indices of the rows whose cosine with an earlier row that was kept is above the threshold, in order."""
    norms_N = np.linalg.norm(unit_ND, axis=1)
    assert np.allclose(norms_N, 1, atol=1e-3), f"rows must have unit norm, found {norms_N.min()} to {norms_N.max()}"
    kept: list[int] = []
    dropped: list[int] = []
    for start in range(0, len(unit_ND), BLOCK):
        block_BD = unit_ND[start : start + BLOCK]
        near_B = np.zeros(len(block_BD), bool)
        for first in range(0, len(kept), BLOCK):
            near_B |= (block_BD @ unit_ND[kept[first : first + BLOCK]].T > threshold).any(axis=1)
        within_BB = block_BD @ block_BD.T > threshold
        for row in range(len(block_BD)):
            near_B[row] |= (within_BB[row, :row] & ~near_B[:row]).any()
            (dropped if near_B[row] else kept).append(start + row)
    return dropped
