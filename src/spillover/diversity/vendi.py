"""Vendi score: exp(H_q(eigenvalues of K / n)), the effective number of distinct texts (Friedman and Dieng 2023), from 1
(all the same) to n (all unlike), with Renyi entropies of order q (Pasarkar and Dieng 2024):

    H_1 = -sum p ln p,   H_q = ln(sum p^q) / (1 - q),   H_inf = -ln max p

K is the cosine kernel of unit-norm embeddings. X X' / n and X' X / n have the same eigenvalues but for zeros, so that
the smaller of the two is decomposed. Orders below 1 weigh rare texts more, those above 1 less. 0 ln 0 = 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ORDERS = (0.5, 1.0, 2.0, float("inf"))
_NOTHING = 1e-12  # an eigenvalue below is rounding; at order 0.5 its square root would count


def spectrum(embeddings_ND: NDArray[np.floating]) -> Floats:
    """Eigenvalues of K / n, largest first, summing to 1."""
    x_ND = np.asarray(embeddings_ND, dtype=np.float64)
    n, d = x_ND.shape
    norms_N = np.linalg.norm(x_ND, axis=1)
    if not n or not np.all(np.abs(norms_N - 1) <= 1e-2):  # NaN has no norm
        raise ValueError(
            f"embeddings must have unit norm, found {norms_N.min(initial=1):g} to {norms_N.max(initial=0):g}"
        )
    x_ND = x_ND / norms_N[:, None]
    return _clean(np.asarray(np.linalg.eigvalsh((x_ND @ x_ND.T if n <= d else x_ND.T @ x_ND) / n), np.float64))


def vendi(p_D: Floats, order: float) -> float:
    """The score of a spectrum."""
    p = p_D[p_D > 0]
    if order == 1:
        return float(np.exp(-(p * np.log(p)).sum()))
    if np.isinf(order):
        return float(1 / p.max())
    return float((p**order).sum() ** (1 / (1 - order)))


def score(embeddings_ND: NDArray[np.floating], order: float = 1.0) -> float:
    """Vendi score of unit-norm embeddings."""
    return vendi(spectrum(embeddings_ND), order)


def _clean(eigenvalues_D: Floats) -> Floats:
    p_D = np.where(eigenvalues_D > _NOTHING, eigenvalues_D, 0.0)[::-1]
    return p_D / p_D.sum()
