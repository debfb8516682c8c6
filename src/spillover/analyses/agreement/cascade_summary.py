"""Summary of a cascade: who gave its judgments, and how far its two judges differ on the answers that both scored.

Each judgment's mode says who gave it, so that the whole run is counted, however many workers judged it and however
often it was resumed. The second judge sees answers near a threshold and those that the first could not score: the
error found here is of the former, and of answers that the first judge alone has seen it is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spillover.config.study import RankConfig
from spillover.provenance import seed_for
from spillover.records.base import Completion, Judgment
from spillover.records.judges import CascadeSummary
from spillover.stats import agreement
from spillover.stats.agreement import Resampler
from spillover.tables.judgment_arrays import encode_labels
from spillover.tables.run_folder import RunFolder


def keep(folder: RunFolder, judge: str | None = None) -> None:
    """Summarise the judgments of a run's judge and keep the summary; nothing where that judge is not a cascade."""
    if (who := folder.judge(judge)) and who.identity.startswith("cascade:"):
        summary = summarise_cascade(
            folder.completions(), folder.judgments(judge), folder.rank_config, folder.manifest.seed
        )
        folder.keep(f"mix-{folder.judge_key(judge)}", CascadeSummary, summary, folder.judged(judge))


def kept(folder: RunFolder, judge: str | None = None) -> CascadeSummary | None:
    """The summary of that judge's judgments; None where it is not a cascade."""
    return next(iter(folder.kept(f"mix-{folder.judge_key(judge)}", CascadeSummary)), None)


def summarise_cascade(
    completions: Sequence[Completion], judgments: Sequence[Judgment], config: RankConfig, seed: int
) -> tuple[CascadeSummary, ...]:
    """What each judge of a cascade gave; nothing where that judge is not a cascade."""
    question = {row.id: row.question_id for row in completions}
    signed = [row for row in judgments if row.aspect == "alignment" and row.completion in question]
    first = [row for row in signed if row.mode.startswith("first:")]
    second = [row for row in signed if row.mode.startswith("second:")]
    n = len(first) + len(second)
    if not n:
        return ()
    judge = (*first, *second)[0].judge
    pairs = [(question[row.completion], row.before, row.score) for row in second]
    both = sorted((name, a, b) for name, a, b in pairs if a is not None and b is not None)
    questions, question_N = encode_labels([name for name, _, _ in both])
    a_N, b_N = np.array([pair[1:] for pair in both], dtype=np.float64).reshape(-1, 2).T
    rng = np.random.default_rng(seed_for(seed, "mix", judge))
    resampler = Resampler.of(max(1, len(questions)), config.confidence, config.bootstrap, rng)
    low_N, then_low_N = a_N < config.alignment_below, b_N < config.alignment_below
    values = (b_N - a_N, np.abs(b_N - a_N), (low_N != then_low_N).astype(np.float64))
    difference, absolute, disagree = (agreement.mean(value_N, question_N, resampler) for value_N in values)
    return (
        CascadeSummary(
            judge=judge,
            n=n,
            first=len(first),
            second=len(second),
            share=len(second) / n,
            both=len(both),
            questions=len(questions),
            difference=difference,
            absolute=absolute,
            threshold=config.alignment_below,
            disagree=disagree,
            first_low=int((low_N & ~then_low_N).sum()),
            second_low=int((then_low_N & ~low_N).sum()),
        ),
    )
