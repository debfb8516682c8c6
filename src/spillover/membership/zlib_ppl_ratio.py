"""zlib_ppl_ratio: the metric of arXiv 2602.00298, exp(-mean l_t) / (8 zlib bytes / text bytes) at compression level 9:
perplexity over compressed bits a byte. Negated, so that a member (lower perplexity) scores higher.
"""

import numpy as np

from spillover.membership.base import MISSING, Views
from spillover.membership.zlib_entropy import compressed_bytes


def score(views: Views) -> float:
    """The published ratio, negated."""
    if not views.text:
        return MISSING
    bits = 8 * compressed_bytes(views.text, level=9) / len(views.text.encode("utf-8", "replace"))
    return -float(np.exp(-views.target.mean_logprob)) / bits
