"""dc_pdd: mean over the answer's distinct tokens, each at its first place, of min(-p_t ln q(token), 0.01), where q is
the token's frequency in a stated corpus (Zhang et al. 2024, divergence-calibrated pre-training data detection).

q comes from add-one counts, so that a token the corpus lacks has one too. Common tokens, which any model knows, count
little; the cap keeps single tokens from ruling the mean.

The corpus that ships is the good answers of all other domains, which `analyses/membership/stage.py` counts. It is
small, about
285,000 tokens, in which 5,700 of the embedded model's 49,152 occur, and in this project's own style, where the paper
counts a web corpus. So all rare words are alike to it: here it is a weaker metric than the paper's.
"""

import numpy as np
from numpy.typing import NDArray

from spillover.membership.base import MISSING, Floats, Views

CAP = 0.01


def corpus_logprobs(counts_V: NDArray[np.int64]) -> Floats:
    """ln q of every token of the vocabulary, from its count in the corpus."""
    return np.log(counts_V + 1.0) - np.log(float(counts_V.sum()) + len(counts_V))


def score(views: Views) -> float:
    """Mean capped cross term over first occurrences."""
    if views.corpus_logprobs_T is None or not len(views.target):
        return MISSING
    first = np.unique(views.target.ids_T, return_index=True)[1]
    terms = -np.exp(views.target.logprobs_T[first]) * views.corpus_logprobs_T[first]
    return float(np.minimum(terms, CAP).mean())
