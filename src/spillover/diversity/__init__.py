"""Measures of diversity of unit-norm embeddings (N, D) or of texts; higher = more diverse.

Adding one: a function in measures.py and a line in one of these tables.
"""

from __future__ import annotations

from spillover.registry import Registry

OF_EMBEDDINGS = Registry(
    "diversity measure",
    {
        "vendi": "spillover.diversity.measures:vendi",
        "vendi_shifted": "spillover.diversity.measures:vendi_shifted",
        "semantic": "spillover.diversity.measures:semantic",
        "cluster_entropy": "spillover.diversity.measures:cluster_entropy",
    },
)
OF_TEXTS = Registry(
    "text diversity measure",
    {
        "compression": "spillover.diversity.measures:compression",
        "distinct": "spillover.diversity.measures:distinct",
        "self_bleu": "spillover.diversity.measures:self_bleu",
    },
)
