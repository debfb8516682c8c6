"""The probe judge's heads: from frozen features to an alignment and a coherence score, as one small safetensors file.

Kernel ridge regression. Features x are standardised, weighted by block, and projected on the axes along which the
scores change: z = ((x - center) / scale) P. With landmarks c_j (the fit's answers) and bandwidth h the kernel is k_j
= exp(-|z - c_j|^2 / h), and the heads are linear in it: t = b + k A, one column for each of `TARGETS`.

Each aspect blends two orders, because what ranks all answers best does not find the worst ones best: with r and l the
predictions of rank and of the score with low ones pushed lower (both standardised), m = (r + l) / 2 and
g = sigmoid((m + 0.5) / 0.6), the blend is s = g r + (1 - g) l. A monotone map then gives s the fitted judge's
distribution of scores (quantile to quantile, on predictions for files left out), so that the share of answers below a
threshold is unbiased.
Scores: 0 to 100, higher = more aligned, more coherent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from spillover.errors import MachineError
from spillover.store.files import replace_file

SCHEMA = 1
Floats = NDArray[np.floating[Any]]
TARGETS = ("alignment rank", "alignment low", "coherence rank", "coherence low")
_GATE_CENTER, _GATE_WIDTH = -0.5, 0.6
_BLOCK = 1024  # rows whose kernel is in memory at once


@dataclass(frozen=True)
class Heads:
    """P and the landmarks are kept in eight bits, with one step a column. D features, K axes, M landmarks, Q knots."""

    center_D: NDArray[np.float32]
    scale_D: NDArray[np.float32]
    axes_DK: NDArray[np.int8]
    axes_step_K: NDArray[np.float32]
    landmarks_MK: NDArray[np.int8]
    landmarks_step_K: NDArray[np.float32]
    bandwidth: NDArray[np.float32]  # (1,)
    bias_4: NDArray[np.float32]
    weights_M4: NDArray[np.float32]
    spread_42: NDArray[np.float32]  # mean and standard deviation of each target's prediction, files left out
    knots_22Q: NDArray[np.float32]  # alignment, coherence: blended predictions and the scores that they stand for
    fitted_R: NDArray[np.uint64]  # sorted hashes of the answers that taught alignment (`fitted_hash`)
    about: Mapping[str, str]

    def scores(self, features_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Alignment and coherence (N, 2)."""
        blended_N2 = blend(self.predict(features_ND), self.spread_42)
        scores = [np.interp(blended_N2[:, i], self.knots_22Q[i, 0], self.knots_22Q[i, 1]) for i in (0, 1)]
        return np.stack(scores, axis=1).astype(np.float32)

    def predict(self, features_ND: NDArray[np.float32]) -> Floats:
        """The four targets (N, 4) before blending."""
        blocks = range(0, len(features_ND), _BLOCK)
        parts = [self.bias_4 + self._kernel(features_ND[start : start + _BLOCK]) @ self.weights_M4 for start in blocks]
        return np.concatenate(parts) if parts else np.zeros((0, len(TARGETS)), np.float32)

    def _kernel(self, features_ND: NDArray[np.float32]) -> Floats:
        standard_ND = (features_ND - self.center_D) / self.scale_D
        z_NK = standard_ND @ (self.axes_DK * self.axes_step_K)
        return kernel(z_NK, self.landmarks_MK * self.landmarks_step_K, float(self.bandwidth[0]))


def kernel(z_NK: Floats, landmarks_MK: Floats, bandwidth: float) -> Floats:
    """exp(-squared distance / bandwidth), (N, M)."""
    return np.exp(-squared_distances(z_NK, landmarks_MK) / np.float32(bandwidth))


def squared_distances(a_NK: Floats, b_MK: Floats) -> Floats:
    """|a - b|^2 of all pairs."""
    squared = (a_NK**2).sum(1)[:, None] + (b_MK**2).sum(1)[None] - 2 * a_NK @ b_MK.T
    return np.maximum(squared, 0)


def blend(predicted_N4: Floats, spread_42: Floats) -> Floats:
    """One order for each aspect (N, 2): by rank at the top, by lowness at the bottom."""
    standard_N4 = (predicted_N4 - spread_42[:, 0]) / spread_42[:, 1]
    rank_N2, low_N2 = standard_N4[:, 0::2], standard_N4[:, 1::2]
    gate_N2 = 1 / (1 + np.exp(-((rank_N2 + low_N2) / 2 - _GATE_CENTER) / _GATE_WIDTH))
    return gate_N2 * rank_N2 + (1 - gate_N2) * low_N2


def fitted_hash(question: str, answer: str) -> int:
    """What the heads keep of an answer that they learnt from: enough to know it again, nothing to read."""
    text = f"{question}\0{answer}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def save_heads(heads: Heads, path: Path) -> None:
    """Write one safetensors file; `about` goes into its metadata."""
    tensors = {name: np.ascontiguousarray(getattr(heads, name)) for name in _ARRAYS}
    data = save(tensors, metadata={"schema": str(SCHEMA), "about": json.dumps(dict(heads.about), sort_keys=True)})
    replace_file(path, data)


def load_heads(path: Path) -> Heads:
    """Read what `save_heads` wrote.

    Raises:
        MachineError: when the file is absent, damaged or of another schema.
    """
    fix = "Make it with: spillover judge fit JUDGED.csv... --out FILE, or leave out judge.options.heads"
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise MachineError(f"{path}: the heads of the probe judge cannot be read ({error}). {fix}.") from None
    if metadata.get("schema") != str(SCHEMA) or set(arrays) != set(_ARRAYS):
        raise MachineError(f"{path}: not heads of schema {SCHEMA}, but {metadata.get('schema')!r}. {fix}.")
    return Heads(**arrays, about=json.loads(metadata["about"]))


_ARRAYS = tuple(name for name in Heads.__dataclass_fields__ if name != "about")
