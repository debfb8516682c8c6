"""Every measure of some texts as a function of row numbers, so that all see the same subsamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spillover.diversity import OF_EMBEDDINGS, OF_TEXTS
from spillover.diversity.subsamples import Ints
from spillover.diversity.vendi import ORDERS

Of = Callable[[Ints], float]


def measures(texts: Sequence[str], embeddings_ND: NDArray[np.floating] | None) -> Iterator[tuple[str, Of]]:
    """Those with an order once for each; those of embeddings only where there are any."""
    if embeddings_ND is not None:
        yield from _of_embeddings(embeddings_ND)
    for name in OF_TEXTS.names():
        score = OF_TEXTS.load(name)
        yield name, lambda rows, score=score: score([texts[row] for row in rows])


def _of_embeddings(embeddings_ND: NDArray[np.floating]) -> Iterator[tuple[str, Of]]:
    for name in OF_EMBEDDINGS.names():
        score = OF_EMBEDDINGS.load(name)
        orders = [(f"{name}_q{order:g}", partial(score, order=order)) for order in ORDERS]
        for label, measure in orders if name.startswith("vendi") else [(name, score)]:
            yield label, lambda rows, measure=measure: measure(embeddings_ND[rows])
