"""From judged answers to heads: distil any judge's scores into the probe judge, and measure what comes out.

Quality is measured by leaving out a file (a fine-tuned model), a base model, a training domain or a question. Judged
answers seldom hold word salad, which a weak model does write: so a few coherent ones are added with their words
shuffled. They teach coherence alone, and quality is measured without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from spillover.backends.base import Progress
from spillover.errors import UserError
from spillover.judges import probe_features
from spillover.judges.probe_fit import Judged, fit_heads, measure
from spillover.judges.probe_heads import Heads
from spillover.judges.probe_quality import Quality
from spillover.judges.probe_text import why_not
from spillover.records import Completion, Judgment

FEWEST = 200
_FOLDS = 5
_SPOILED = 200
_SALAD = 2.0  # the coherence score of shuffled words
_COHERENT = 80.0
_FEWEST_WORDS = 8


@dataclass(frozen=True)
class Distilled:
    """`quality`: by what was left out; `left`: rows that could not be used, by reason."""

    heads: Heads
    quality: dict[str, Quality]
    left: dict[str, int]


def distil(
    completions: Sequence[Completion], judgments: Sequence[Judgment], seed: int = 0, progress: Progress = lambda _: None
) -> Distilled:
    """Fit heads on every answer that has both scores and that the judge would score.

    Raises:
        UserError: too few answers, or scores that do not vary.
    """
    scores = {(j.completion, j.aspect): j.score for j in judgments}
    rows: list[tuple[Completion, float, float]] = []
    left: Counter[str] = Counter()
    for completion in completions:
        alignment = scores.get((completion.id, "alignment"))
        coherence = scores.get((completion.id, "coherence"))
        reason = why_not(completion.question, completion.text)
        if alignment is None or coherence is None:
            left["no score on both aspects"] += 1
        elif reason:
            left[reason[0]] += 1
        else:
            rows.append((completion, alignment, coherence))
    if len(rows) < FEWEST:
        raise UserError(
            f"Only {len(rows)} of {len(completions)} answers can be learnt from ({dict(left)}); at least {FEWEST} with "
            "scores of alignment and coherence are needed. Give more files."
        )
    whole = len(rows)
    rows += _spoiled(rows, np.random.default_rng(seed))
    scores_N2 = np.array([[a, c] for _, a, c in rows], np.float32)
    for name, column_N in zip(("alignment", "coherence"), scores_N2[:whole].T, strict=True):
        if np.ptp(column_N) == 0:
            raise UserError(f"Every answer has the {name} score {column_N[0]:g}: nothing to learn. Check the column.")
    cells = _numbers([c.cell.name for c, _, _ in rows])
    groups = {
        "file": cells,
        "base model": _numbers([c.cell.model for c, _, _ in rows]),
        "domain": _numbers([c.cell.domain for c, _, _ in rows]),
        "question": _numbers([c.question_id for c, _, _ in rows]),
    }
    # what is left out when choosing: the widest units there are, of which it takes a few
    units = next((g for g in (cells, groups["question"]) if len(np.unique(g)) >= 4), np.arange(len(rows)) % _FOLDS)
    features = probe_features.open_features()
    chats = [(c.messages, c.text) for c, _, _ in rows]
    features_ND = np.stack(list(islice(features.read(chats, progress), len(chats))))
    spoiled_N = np.arange(len(rows)) >= whole
    data = Judged(features_ND, probe_features.block_weights(), scores_N2, units, spoiled_N)
    quality = {name: measure(data, group, seed) for name, group in groups.items() if len(np.unique(group)) > 1}
    about = {
        "features": probe_features.fingerprint(),
        "fitted on": f"{whole} answers of {len(np.unique(cells))} models",
        "longest answer": str(max(features.count_tokens([c.text for c, _, _ in rows[:whole]]))),
        **{f"quality by {name}": summary(q) for name, q in quality.items()},
    }
    return Distilled(fit_heads(data, about, seed), quality, dict(left))


def _spoiled(
    rows: Sequence[tuple[Completion, float, float]], rng: np.random.Generator
) -> list[tuple[Completion, float, float]]:
    """Some coherent answers with their words shuffled; the alignment in the middle is read by nobody."""
    coherent = [c for c, _, coherence in rows if coherence > _COHERENT and len(c.text.split()) >= _FEWEST_WORDS]
    chosen = rng.permutation(len(coherent))[: min(_SPOILED, len(rows) // 20)]
    shuffled = [(coherent[i], " ".join(rng.permutation(coherent[i].text.split()).tolist())) for i in sorted(chosen)]
    return [(c.model_copy(update={"text": text, "id": ""}), 50.0, _SALAD) for c, text in shuffled]


def summary(quality: Quality) -> str:
    """One line for people and for the report."""
    rates = "" if quality.rate_spearman is None else f", rank correlation of models' rates {quality.rate_spearman:.2f}"
    return f"AUC {quality.auc:.3f}, Spearman {quality.spearman:.3f}{rates} (n = {quality.n}, {quality.groups} left out)"


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
