"""self_bleu: mean BLEU of each text against all the others (Zhu et al. 2018), negated: higher = more diverse.

BLEU here: geometric mean of the clipped precisions of word 1- to 4-grams, without brevity penalty, as every text has
many references; a precision of 0 is counted as half a match (Chen and Cherry 2014, smoothing by epsilon 0.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from spillover.diversity.distinct import ngrams

ORDER = 4
Gram = tuple[str, ...]


def score(texts: Sequence[str]) -> float:
    """Negative mean self-BLEU over the texts with at least four words; NaN for fewer than two."""
    texts = [text for text in texts if len(text.split()) >= ORDER]
    if len(texts) < 2:
        return float("nan")
    log_precision_N = np.zeros(len(texts))
    for n in range(1, ORDER + 1):
        counts = [Counter(ngrams(text, n)) for text in texts]
        best = _two_largest(counts)
        for i, own in enumerate(counts):
            matched = sum(min(count, best[gram][1 if best[gram][2] == i else 0]) for gram, count in own.items())
            log_precision_N[i] += np.log(max(matched, 0.5) / own.total()) / ORDER
    return -float(np.exp(log_precision_N).mean())


def _two_largest(counts: Sequence[Counter[Gram]]) -> dict[Gram, tuple[int, int, int]]:
    """For each n-gram its largest count in a text, its largest in any other text, and which text has the largest."""
    best: dict[Gram, tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, count in own.items():
            first, second, where = best.get(gram, (0, 0, -1))
            best[gram] = (count, first, i) if count > first else (first, max(second, count), where)
    return best
