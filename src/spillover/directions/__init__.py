"""Directions in the residual stream: a value, the methods that find it, one a file, and what is said of its certainty.

Adding a method: a file here with find(Answers) -> vectors_LD, and a line in this table.
"""

from __future__ import annotations

from spillover.registry import Registry

METHODS = Registry(
    "method",
    {
        "mean_difference": "spillover.directions.mean_difference:find",
        "principal": "spillover.directions.principal:find",
        "logistic": "spillover.directions.logistic:find",
    },
)
PRIMARY = "mean_difference"  # what tables, nulls and profiles are of; named before any result
SHIFT = "tuned_minus_base"  # the one method without labels, which reads the texts twice: directions/tuned_minus_base.py
