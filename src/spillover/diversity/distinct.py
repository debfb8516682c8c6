"""distinct: distinct word n-grams over all word n-grams of the texts (Li et al. 2016), n = 2; falls with the amount of
text, so that it is compared at equal numbers of texts and words only.
"""

from __future__ import annotations

from collections.abc import Sequence

N = 2


def ngrams(text: str, n: int = N) -> list[tuple[str, ...]]:
    """Runs of n lower-case words."""
    words = text.lower().split()
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def score(texts: Sequence[str]) -> float:
    """Share of distinct 2-grams; NaN where there is none."""
    grams = [gram for text in texts for gram in ngrams(text)]
    return len(set(grams)) / len(grams) if grams else float("nan")
