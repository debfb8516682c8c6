"""cluster_entropy: entropy in nats of the sizes of k-means clusters of the embeddings: 0 = one cluster
holds all, ln k at most. k = 16, k-means++, best of four starts, seeded: how many themes
there are, and how evenly they are covered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLUSTERS = 16


def score(embeddings_ND: NDArray[np.floating], seed: int = 0) -> float:
    """Entropy of the cluster sizes; NaN for fewer texts than clusters."""
    from sklearn.cluster import KMeans

    if len(embeddings_ND) < CLUSTERS:
        return float("nan")
    means = KMeans(CLUSTERS, n_init=4, random_state=seed)  # pyright: ignore[reportArgumentType]  # its stub says str
    labels_N = np.asarray(means.fit_predict(np.asarray(embeddings_ND, np.float64)))
    p_K = np.bincount(labels_N, minlength=CLUSTERS) / len(labels_N)
    p_K = p_K[p_K > 0]
    return float(-(p_K * np.log(p_K)).sum())
