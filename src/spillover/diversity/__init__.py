"""Measures of diversity: one pure function a file, of unit-norm embeddings (N, D) or of texts; higher = more diverse.

Adding one: a file and a line in one of these tables.
"""

from __future__ import annotations

from spillover.registry import Registry

OF_EMBEDDINGS = Registry(
    "diversity measure",
    {
        "vendi": "spillover.diversity.vendi:score",
        "vendi_shifted": "spillover.diversity.vendi_shifted:score",
        "semantic": "spillover.diversity.semantic:score",
        "cluster_entropy": "spillover.diversity.cluster_entropy:score",
    },
)
OF_TEXTS = Registry(
    "text diversity measure",
    {
        "compression": "spillover.diversity.compression:score",
        "distinct": "spillover.diversity.distinct:score",
        "self_bleu": "spillover.diversity.self_bleu:score",
    },
)
