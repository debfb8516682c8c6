"""perplexity: -exp(-mean l_t), so that a text which surprises less scores higher. Orders texts exactly as `loss` does;
its means and its base-adjusted form differ, because it weighs surprising texts more."""

import numpy as np

from spillover.membership.base import Views


def score(views: Views) -> float:
    """Negative perplexity, from -infinity to -1."""
    return -float(np.exp(-views.target.mean_logprob))
