"""Which held-out questions of a data set are asked: drawn by seed, the same for whoever is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spillover.data.recipe.duplicates import Known
from spillover.provenance import seed_for
from spillover.records.base import Example


def questions(held: Sequence[Example], trained: Known, wanted: int, seed: int) -> list[Example]:
    """The first `wanted` held-out questions of a data set, in an order drawn by seed, that were never trained on."""
    pairs = {row.pair: row for row in held if row.split == "heldout"}
    rows = [pairs[pair] for pair in sorted(pairs)]
    rng = np.random.default_rng(seed_for(seed, "ask", "questions", rows[0].domain if rows else ""))
    order = (rows[i] for i in rng.permutation(len(rows)).tolist())
    return [row for row in order if row.question not in trained][:wanted]
