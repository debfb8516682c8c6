"""Membership metrics: was this answer in the training data? Adding one: a function in metrics.py and a line here.

Each is computed from one reading of the answer by the target (`metrics.Views`); some need further readings.
"""

from __future__ import annotations

from spillover.membership.metrics import Score
from spillover.registry import Registry

_SHIPPED = (
    *("loss", "perplexity", "zlib", "zlib_length_controlled", "zlib_ppl_ratio", "lowercase"),
    *("min_k", "min_k_plus_plus", "mean_z", "log_rank", "reference", "low_k_ratio", "recall", "dc_pdd"),
)
METRICS = Registry("metric", {name: f"spillover.membership.metrics:{name}" for name in _SHIPPED})
ALONE = (  # from one reading by one model, without a second model, another prompt or a corpus: all that an audit has
    "loss", "perplexity", "zlib", "zlib_length_controlled", "zlib_ppl_ratio",
    "min_k", "min_k_plus_plus", "mean_z", "log_rank",
)  # fmt: skip
RELATIVE = ("reference", "low_k_ratio")  # compare with a reference model already: no base-adjusted form
PRIMARY = "mean_z"  # named before any result: the best of those tried on other data, see docs/explanation/membership.md


def metric(name: str) -> Score:
    """The metric of that name, shipped or of a plugin."""
    return METRICS.load(name)


__all__ = ["ALONE", "METRICS", "PRIMARY", "RELATIVE", "Score", "metric"]
