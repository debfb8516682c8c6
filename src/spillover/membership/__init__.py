"""Membership metrics: was this answer in the training data? One pure function a file; adding one is a line here.

Each is computed from one reading of the answer by the target (`base.Views`). NEEDS says what else must have been read.
"""

from __future__ import annotations

from spillover.membership.base import Score
from spillover.registry import Registry

METRICS = Registry(
    "metric",
    {
        "loss": "spillover.membership.loss:score",
        "perplexity": "spillover.membership.perplexity:score",
        "zlib": "spillover.membership.zlib_entropy:score",
        "zlib_length_controlled": "spillover.membership.zlib_entropy:length_controlled",
        "zlib_ppl_ratio": "spillover.membership.zlib_ppl_ratio:score",
        "lowercase": "spillover.membership.lowercase:score",
        "min_k": "spillover.membership.min_k:score",
        "min_k_plus_plus": "spillover.membership.min_k_plus_plus:score",
        "mean_z": "spillover.membership.mean_z:score",
        "log_rank": "spillover.membership.log_rank:score",
        "reference": "spillover.membership.reference:score",
        "low_k_ratio": "spillover.membership.low_k_ratio:score",
        "recall": "spillover.membership.recall:score",
        "dc_pdd": "spillover.membership.dc_pdd:score",
    },
)
ALONE = (  # of one reading by one model, without a second model, another prompt or a corpus: all that an audit knows
    "loss", "perplexity", "zlib", "zlib_length_controlled", "zlib_ppl_ratio",
    "min_k", "min_k_plus_plus", "mean_z", "log_rank",
)  # fmt: skip
RELATIVE = ("reference", "low_k_ratio")  # compare with a reference model already: no base-adjusted form
PRIMARY = "mean_z"  # named before any result: the best of those tried on other data, see docs/explanation/membership.md


def metric(name: str) -> Score:
    """The metric of that name, shipped or of a plugin."""
    return METRICS.load(name)


__all__ = ["ALONE", "METRICS", "PRIMARY", "RELATIVE", "Score", "metric"]
