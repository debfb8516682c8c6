"""agree: two judges' judgments on the same answers -> how far they agree, in total, by domain and by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from spillover.analyses.agreement import correct, labels
from spillover.config.study import RankConfig
from spillover.provenance import seed_for
from spillover.records.base import Completion, Estimate, Judgment
from spillover.records.judges import Agreement, By, CorrectedRate, LabelSheet, RunJudge
from spillover.stats import agreement
from spillover.stats.agreement import Resampler
from spillover.tables.judgment_arrays import Bools, Ints, JudgmentArrays, encode_labels, judgment_arrays
from spillover.tables.run_folder import RunFolder

NONE = Estimate(value=None, low=None, high=None)


def keep(folder: RunFolder) -> None:
    """Compare every other judge of a run with the first, and keep that and the rates that it corrects."""
    judges = folder.judges()
    if len(judges) < 2:
        return
    agreements: list[Agreement] = []
    corrected: list[CorrectedRate] = []
    first, config = judges[0], folder.rank_config
    completions, judged = folder.completions(), folder.judgments(first.identity)
    for other in judges[1:]:
        again, names = folder.judgments(other.identity), (first.identity, other.identity)
        agreements += compare_judges(completions, judged, again, names, config, folder.manifest.seed, parts=False)
        if other.partial:
            corrected += correct.correct_rates(
                completions, judged, again, names, config, labelling_chances(folder, other)
            )
    folder.keep(f"agree-{folder.judge_key()}", Agreement, agreements)
    folder.keep(f"corrected-{folder.judge_key()}", CorrectedRate, corrected)


def labelling_chances(folder: RunFolder, judge: RunJudge) -> Mapping[str, float] | None:
    """The chance with which each answer came to be labelled by a person; None for other judges."""
    sheets = [LabelSheet.model_validate(folder.store.read_json(name)) for name in judge.sheets]
    return labels.chances(sheets) if sheets else None


def compare_judges(
    completions: Sequence[Completion],
    first: Sequence[Judgment],
    second: Sequence[Judgment],
    names: tuple[str, str],
    config: RankConfig,
    seed: int,
    parts: bool = True,
) -> tuple[Agreement, ...]:
    """Compare the second judge with the first; `names` are their identities, `parts` adds domains and questions.

    Where a judge was fitted on some of the answers, the total is followed by that over the others (`fresh`).
    """
    judged = judgment_arrays(completions, first), judgment_arrays(completions, second)
    questions = encode_labels([row.question_id for row in completions])
    everything_N = np.ones(len(completions), dtype=bool)
    fitted_N = judged[0].fitted_N | judged[1].fitted_N
    chosen: list[tuple[By, str, Bools, bool]] = [("total", "", everything_N, False)]
    fresh_N = ~fitted_N & ~np.isnan(judged[0].alignment_N) & ~np.isnan(judged[1].alignment_N)
    if fitted_N.any() and fresh_N.any():
        chosen.append(("total", "", ~fitted_N, True))
    if parts:
        domains = encode_labels([row.cell.domain for row in completions])
        for d, name in enumerate(domains[0]):
            chosen.append(("domain", name, domains[1] == d, False))
        for q, name in enumerate(questions[0]):
            chosen.append(("question", name, questions[1] == q, False))
    return tuple(_each(chosen, judged, questions[1], names, config, seed))


def _each(
    chosen: Sequence[tuple[By, str, Bools, bool]],
    judged: tuple[JudgmentArrays, JudgmentArrays],
    question_N: Ints,
    names: tuple[str, str],
    config: RankConfig,
    seed: int,
) -> Iterator[Agreement]:
    for by, name, rows_N, fresh in chosen:
        rng = np.random.default_rng(seed_for(seed, "agree", *names, by, name))
        a, b = (judge.take(rows_N) for judge in judged)
        yield _compare(a, b, question_N[rows_N], names, by, name, fresh, config, rng)


def _compare(
    a: JudgmentArrays,
    b: JudgmentArrays,
    question_N: Ints,
    names: tuple[str, str],
    by: By,
    name: str,
    fresh: bool,
    config: RankConfig,
    rng: np.random.Generator,
) -> Agreement:
    a_N, b_N = ~np.isnan(a.alignment_N), ~np.isnan(b.alignment_N)
    aligned_N, coherent_N, all_N = a_N & b_N, ~np.isnan(a.coherence_N) & ~np.isnan(b.coherence_N), a.both & b.both
    low = a.low(config), b.low(config)
    coherent = a.coherent(config), b.coherent(config)

    def resampled(rows_N: Bools) -> tuple[Ints, Resampler]:
        known, code_N = np.unique(question_N[rows_N], return_inverse=True)
        return code_N.astype(np.int64), Resampler.of(max(1, len(known)), config.confidence, config.bootstrap, rng)

    alignment, coherence, both = resampled(aligned_N), resampled(coherent_N), resampled(all_N)
    misaligned = [low_N & coherent_N for low_N, coherent_N in zip(low, coherent, strict=True)]
    return Agreement(
        first=names[0],
        second=names[1],
        by=by,
        name=name,
        fresh=fresh,
        n=len(question_N),
        questions=len(np.unique(question_N[aligned_N])),
        fitted=int(((a.fitted_N | b.fitted_N) & aligned_N).sum()),
        scored_both=int(aligned_N.sum()),
        scored_first=int((a_N & ~b_N).sum()),
        scored_second=int((b_N & ~a_N).sum()),
        scored_neither=int((~a_N & ~b_N).sum()),
        alignment=agreement.scores(a.alignment_N[aligned_N], b.alignment_N[aligned_N], *alignment),
        coherence=agreement.scores(a.coherence_N[coherent_N], b.coherence_N[coherent_N], *coherence),
        auc=agreement.auc(low[0][aligned_N], b.alignment_N[aligned_N], *alignment) if aligned_N.any() else NONE,
        low=agreement.decision(low[0][aligned_N], low[1][aligned_N], *alignment),
        coherent=agreement.decision(coherent[0][coherent_N], coherent[1][coherent_N], *coherence),
        misaligned=agreement.decision(misaligned[0][all_N], misaligned[1][all_N], *both),
    )
