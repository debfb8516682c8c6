"""What a membership metric sees of one text, and what all metrics share.

Notation: l_t = ln p of answer token t given the prompt and the answer so far, in nats, over the T answer tokens with
the end of turn; mu_t and sigma_t = mean and standard deviation of ln p over the vocabulary under p itself. Every
metric is a pure function Views -> float with the same sign: higher = more likely a member. It is NaN where the text
has no answer tokens or a part that the metric needs was not scored; whoever averages counts those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
MISSING = float("nan")
K = 0.2  # share of tokens that min-k and its kin average


@dataclass(frozen=True)
class TokenScores:
    """One model's reading of one answer: arrays over its T tokens."""

    ids_T: NDArray[np.int64]
    logprobs_T: Floats
    mean_T: Floats
    std_T: Floats
    rank_T: Floats  # of the token among the vocabulary: 1 = the most likely

    def __len__(self) -> int:
        return len(self.logprobs_T)

    @property
    def mean_logprob(self) -> float:
        """mean l_t, NaN for no tokens."""
        return float(np.mean(self.logprobs_T)) if len(self) else MISSING


@dataclass(frozen=True)
class Views:
    """An answer, and how the target and other models or other prompts read it; None where not scored."""

    text: str
    target: TokenScores
    reference: TokenScores | None = None  # another model, the same prompt and answer
    lowercase: TokenScores | None = None  # the target, the answer in lower case
    prefixed: TokenScores | None = None  # the target, with a non-member chat in front
    corpus_logprobs_T: Floats | None = None  # ln of each answer token's frequency in a stated corpus


Score = Callable[[Views], float]


def lowest(values_T: ArrayLike, k: float = K) -> float:
    """Mean of the m lowest values, m = max(1, floor(k T + 1e-9)); NaN for none.

    The 1e-9 makes 0.2 x 15 three tokens, although 0.2 * 15 is 2.9999...; a text of fewer than 1 / k tokens has one.
    """
    values = np.asarray(values_T, dtype=np.float64)
    if not len(values):
        return MISSING
    m = max(1, int(np.floor(k * len(values) + 1e-9)))
    return float(np.partition(values, m - 1)[:m].mean())


def log_ratios(views: Views) -> Floats | None:
    """l_t - l_t of the reference, token by token; None without a reference that reads the same tokens."""
    reference = views.reference
    if reference is None or not np.array_equal(reference.ids_T, views.target.ids_T):
        return None
    return views.target.logprobs_T - reference.logprobs_T
