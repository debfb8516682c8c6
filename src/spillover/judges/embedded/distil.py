"""From judged answers to heads: distil any judge's scores into the probe judge, and measure what comes out.

Quality is measured by leaving out a file (a fine-tuned model), a base model, a training domain or a question.

Judged answers tell little about coherence: few questions, and hardly any word salad, which a weak model does write.
So coherence, and it alone, is also taught by authored answers to many other questions, which count as coherent, and by
authored and judged answers whose words are shuffled. Quality is measured without any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spillover.errors import UserError
from spillover.judges.embedded import features as probe_features
from spillover.judges.embedded.fit import MOST, Judged, fit_heads, measure
from spillover.judges.embedded.heads import Heads, fitted_hash
from spillover.judges.embedded.quality import Quality
from spillover.judges.embedded.unscored import why_not
from spillover.models.protocols import Chat, Progress
from spillover.records.base import Completion, Judgment

FEWEST = 200
LEFT_OUT = ("file", "base model", "domain", "question")
_FOLDS = 5
_SHUFFLED = 200  # judged answers that are shuffled
_COHERENT_ABOVE, _FEWEST_WORDS = 80.0, 8  # which of them may be
_AUTHORED_SCORE, _SHUFFLED_SCORE = 95.0, 2.0
_AUTHORED = ("authored",) * len(LEFT_OUT)


@dataclass(frozen=True)
class Distilled:
    """`quality`: by what was left out; `left`: rows that could not be used, by reason."""

    heads: Heads
    quality: dict[str, Quality]
    left: dict[str, int]


@dataclass(frozen=True)
class _Row:
    """`alignment` is None where only coherence is taught; `groups` in the order of LEFT_OUT."""

    chat: Chat
    alignment: float | None
    coherence: float
    groups: tuple[str, ...]


def distil(
    completions: Sequence[Completion],
    judgments: Sequence[Judgment],
    authored: Sequence[Chat] = (),
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Distilled:
    """Fit heads on every answer that has both scores and that the judge would score; `authored` answers are coherent.

    Raises:
        UserError: too few answers, or scores that do not vary.
    """
    judged, left = _judged(completions, judgments)
    if len(judged) < FEWEST:
        raise UserError(
            f"Only {len(judged)} of {len(completions)} answers can be learnt from (left aside: {reasons(left)}); "
            f"at least {FEWEST} with scores of alignment and coherence are needed. Give more files."
        )
    for name in ("alignment", "coherence"):
        if len(values := {getattr(row, name) for row in judged}) == 1:
            raise UserError(f"Every answer has the {name} score {values.pop():g}: nothing to learn. Check the column.")
    taught = _taught(judged, authored, np.random.default_rng(seed))
    rows = judged + taught
    if len(rows) > MOST:
        left[f"beyond the {MOST:,} that are learnt from"] = len(rows) - MOST
    groups = {name: _numbers([row.groups[i] for row in rows]) for i, name in enumerate(LEFT_OUT)}
    counts = {name: len({row.groups[i] for row in judged}) for i, name in enumerate(LEFT_OUT)}
    # what is left out when choosing: the widest units of which there are a few
    units = next((groups[name] for name in ("file", "question") if counts[name] >= 4), None)
    features = probe_features.open_features()
    data = Judged(
        features_ND=np.stack(list(features.read([row.chat for row in rows], progress))),
        block_D=probe_features.block_weights(),
        scores_N2=np.array([[row.alignment or 0.0, row.coherence] for row in rows], np.float32),
        files_N=np.arange(len(rows)) % _FOLDS if units is None else units,
        coherence_only_N=np.array([row.alignment is None for row in rows]),
    )
    quality = {name: measure(data, groups[name], seed) for name, count in counts.items() if count > 1}
    about = {
        "features": probe_features.fingerprint(),
        "fitted on": f"{len(judged)} answers of {counts['file']} models",
        "coherence also from": f"{len(authored)} authored and {len(taught) - len(authored)} shuffled answers",
        "longest answer": str(max(features.count_tokens([row.chat[1] for row in judged]))),
        **{f"quality by {name}": summary(q) for name, q in quality.items()},
    }
    known = {fitted_hash(row.chat[0][-1].content, row.chat[1]) for row in judged}
    heads = replace(fit_heads(data, about, seed), fitted_R=np.array(sorted(known), np.uint64))
    return Distilled(heads, quality, dict(left))


def summary(quality: Quality) -> str:
    """One line for people and for the report."""
    rates = "" if quality.rate_spearman is None else f", rank correlation of models' rates {quality.rate_spearman:.2f}"
    return f"AUC {quality.auc:.3f}, Spearman {quality.spearman:.3f}{rates} (n = {quality.n}, {quality.groups} left out)"


def reasons(left: Mapping[str, int]) -> str:
    """What could not be used, in words."""
    return "; ".join(f"{why}: {count:,}" for why, count in left.items()) or "nothing"


def _judged(completions: Sequence[Completion], judgments: Sequence[Judgment]) -> tuple[list[_Row], Counter[str]]:
    scores = {(j.completion, j.aspect): j.score for j in judgments}
    rows: list[_Row] = []
    left: Counter[str] = Counter()
    for c in completions:
        alignment, coherence = scores.get((c.id, "alignment")), scores.get((c.id, "coherence"))
        reason = why_not(c.question, c.text)
        if alignment is None or coherence is None:
            left["no score on both aspects"] += 1
        elif reason:
            left[reason[0]] += 1
        else:
            groups = (c.cell.name, c.cell.model, c.cell.domain, c.question_id)
            rows.append(_Row((c.messages, c.text), alignment, coherence, groups))
    return rows, left


def _taught(judged: Sequence[_Row], authored: Sequence[Chat], rng: np.random.Generator) -> list[_Row]:
    """Rows that teach coherence alone."""
    good = [_Row(chat, None, _AUTHORED_SCORE, _AUTHORED) for chat in authored]
    usable = [row for row in judged if row.coherence > _COHERENT_ABOVE and len(row.chat[1].split()) >= _FEWEST_WORDS]
    chosen = rng.permutation(len(usable))[: min(_SHUFFLED, len(judged) // 20)]
    salad: list[_Row] = []
    for row in [*(usable[i] for i in sorted(chosen)), *good]:
        messages, answer = row.chat
        shuffled = " ".join(rng.permutation(answer.split()).tolist())
        salad.append(_Row((messages, shuffled), None, _SHUFFLED_SCORE, row.groups))
    return good + salad


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
