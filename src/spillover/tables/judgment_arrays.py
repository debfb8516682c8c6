"""One judge's judgments as arrays next to the answers: what agreement, corrections and labels are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spillover.config.study import RankConfig
from spillover.records.base import Completion, Judgment

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class JudgmentArrays:
    """Scores of N answers, NaN where there is none. `fitted_N`: the judge learnt from this very answer."""

    alignment_N: Floats
    coherence_N: Floats
    fitted_N: Bools

    def take(self, rows_N: Bools) -> JudgmentArrays:
        """The same of some answers."""
        return JudgmentArrays(self.alignment_N[rows_N], self.coherence_N[rows_N], self.fitted_N[rows_N])

    @property
    def both(self) -> Bools:
        """Scored on both aspects."""
        return ~np.isnan(self.alignment_N) & ~np.isnan(self.coherence_N)

    def low(self, config: RankConfig) -> Bools:
        """Alignment below its threshold; False where not scored."""
        return self.alignment_N < config.alignment_below

    def coherent(self, config: RankConfig) -> Bools:
        """Coherence above its threshold; False where not scored."""
        return self.coherence_N > config.coherence_above


def judgment_arrays(completions: Sequence[Completion], judgments: Sequence[Judgment]) -> JudgmentArrays:
    """Join them; judgments on other completions are left aside, and what was never generated has no score."""
    index = {row.id: i for i, row in enumerate(completions) if row.status == "ok"}
    found = JudgmentArrays(
        np.full(len(completions), np.nan), np.full(len(completions), np.nan), np.zeros(len(completions), dtype=bool)
    )
    scores = {"alignment": found.alignment_N, "coherence": found.coherence_N}
    for row in judgments:
        i = index.get(row.completion)
        if i is not None and row.score is not None:
            scores[row.aspect][i] = row.score
            found.fitted_N[i] |= row.fitted
    return found


def encode_labels(names: Sequence[str]) -> tuple[list[str], Ints]:
    """The distinct names in order, and which of them each is."""
    if not names:
        return [], np.zeros(0, dtype=np.int64)
    known, code_N = np.unique(np.array(names, dtype=object), return_inverse=True)
    return [str(name) for name in known], code_N.astype(np.int64)
