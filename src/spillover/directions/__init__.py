"""Directions in the residual stream: methods that find them, their certainty and similarity, the effects of steering.

Adding a method: a function Answers -> vectors_LD in methods.py, and a line in this table.
"""

from __future__ import annotations

from spillover.registry import Registry

METHODS = Registry(
    "method",
    {
        "mean_difference": "spillover.directions.methods:mean_difference",
        "principal": "spillover.directions.methods:principal",
        "logistic": "spillover.directions.methods:logistic",
    },
)
PRIMARY = "mean_difference"  # what tables, nulls and profiles are of; named before any result
SHIFT = "tuned_minus_base"  # the one method without labels, which reads the texts twice
