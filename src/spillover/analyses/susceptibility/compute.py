"""Susceptibility: what known of a data set goes with the misalignment of the cells trained on it?

Units are trained cells asked without a trigger; features are joined to them by the exact cell, diversity by domain,
variant and dose. Names: `METRIC.READING` is the mean of a membership metric over the training rows,
`METRIC.READING.auc` how well it tells them from non-members, `diversity.OF.MEASURE` a diversity score,
`directions.others.auc` the projection on other domains' directions (`projections`); the rest are facts of
the data.
Known before training: means under the base model ("instruct", "instruct_minus_pretrained") and everything that
reads no fine-tuned model. After it: AUCs under the fine-tuned model. Predictors see the former alone.
Numbers: `spillover.stats.association`, `spillover.stats.prediction`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from spillover.analyses import read_rows
from spillover.errors import UserError
from spillover.judges.embedded.unscored import is_code
from spillover.membership import ALONE
from spillover.provenance import seed_for
from spillover.records.base import Cell, DomainScore, Estimate, Example, or_none
from spillover.records.data import DiversityScore, HighRate, MembershipSummary, Reading, RocPoint, Susceptibility
from spillover.records.directions import DirectionAUC
from spillover.records.predictor import Predictor, fit
from spillover.stats import Floats
from spillover.stats.association import associations
from spillover.stats.prediction import PREDICTORS, assess
from spillover.stats.roc import HighAUC, Span
from spillover.tables.run_folder import RunFolder

BEFORE: tuple[Reading, ...] = ("instruct", "instruct_minus_pretrained")
_TRAINED = ("plain", "triggered", "control")
TARGETS: tuple[Literal["rate", "mean_alignment"], ...] = ("rate", "mean_alignment")
DRAWS = 2000  # permutations and resamples of domains, for each feature
REFITS = {"ridge": 999, "boosting": 59}  # permutations of a predictor's whole procedure: boosting is slow

Features = dict[str, dict[Cell, float]]  # name -> cell -> value


@threadpool_limits.wrap(limits=1)  # hundreds of small matrices: threads would only wait for one another
def keep(folder: RunFolder) -> None:
    """Relate what is known of each data set of a run to its cells' misalignment, and keep it."""
    summaries, diversity = read_rows(folder, MembershipSummary), read_rows(folder, DiversityScore)
    rows: tuple[Susceptibility, ...] = ()
    if summaries or diversity:
        scores, confidence, seed = read_rows(folder, DomainScore), folder.rank_config.confidence, folder.manifest.seed
        rows = run(scores, summaries, diversity, facts_of(folder), confidence, seed=seed)
    folder.keep(f"susceptibility-{folder.data_key}", Susceptibility, rows)


def predictor(folder: RunFolder, names: tuple[str, ...] = ()) -> Predictor:
    """A ridge predictor of the rate, fitted to all cells of a run.

    Raises:
        UserError: when the run has neither membership nor diversity, or too few domains.
    """
    summaries, diversity = read_rows(folder, MembershipSummary), read_rows(folder, DiversityScore)
    if not summaries and not diversity:
        raise UserError(
            f"{folder.path} has no membership or diversity results. Add 'membership: {{}}' and 'diversity: {{}}' to "
            "the study "
            "file and run it again; finished training and judgments are kept."
        )
    manifest = folder.manifest
    return fit_predictor(
        read_rows(folder, DomainScore), summaries, diversity, facts_of(folder), manifest.study_hash, names or None,
        manifest.spillover,
    )  # fmt: skip


def facts_of(folder: RunFolder) -> Mapping[Cell, Mapping[str, float]]:
    """What is known of each trained cell's data set without a fine-tune: its rows, and other domains' directions."""
    by_data: dict[tuple[str, str, float], Mapping[str, float]] = {}
    for unit in folder.plan["build"]:
        rows = [row for row in folder.store.read("build", [unit.key], Example) if row.split == "train"]
        by_data[unit.cell.domain, unit.cell.variant, unit.cell.dose] = data_facts(rows)
    projected = projections(read_rows(folder, DirectionAUC))
    cells = [unit.cell for unit in folder.plan["train"]]
    return {
        cell: {**by_data.get((cell.domain, cell.variant, cell.dose), {}), **projected.get(cell, {})} for cell in cells
    }


def projections(aucs: Sequence[DirectionAUC]) -> dict[Cell, dict[str, float]]:
    """How well directions of the other domains tell a data set's flawed from its good answers; empty without any.

    The base model reads both, so that this is known before the fine-tune. Mean over the other domains of the AUC
    of the projection on their mean difference, over held-out pairs of the same recipe; 0.5 = they see no difference.
    """
    values: dict[Cell, list[float]] = {}
    for row in aucs:
        known = (row.source, row.reader, row.method) == ("pairs", "base", "mean_difference")
        if known and row.cell.domain != row.onto.domain:
            values.setdefault(row.onto, []).append(row.auc)
    return {cell: {"directions.others.auc": fmean(each)} for cell, each in values.items()}


def run(
    scores: Sequence[DomainScore],
    summaries: Sequence[MembershipSummary],
    diversity: Sequence[DiversityScore],
    facts: Mapping[Cell, Mapping[str, float]],
    confidence: float = 0.95,
    draws: int = DRAWS,
    refits: Mapping[str, int] = REFITS,
    seed: int = 0,
) -> tuple[Susceptibility, ...]:
    """Every feature and every predictor against both targets, for each judge; `facts`: `data_facts` of each cell."""
    found: list[Susceptibility] = []
    for judge in sorted({score.judge for score in scores}):
        chosen = [
            s for s in scores if s.judge == judge and s.condition == "clean" and s.cell.variant in _TRAINED and s.n > 0
        ]
        chosen.sort(key=lambda s: s.cell.name)
        cells = [score.cell for score in chosen]
        before, after = features(cells, summaries, diversity, facts)
        for target in TARGETS:
            values = _array([getattr(score, target) for score in chosen])
            found += _features(before, after, cells, values, target, judge, confidence, draws, seed)
            found += _predictors(before, cells, values, target, judge, confidence, refits, seed)
    return tuple(found)


def fit_predictor(
    scores: Sequence[DomainScore],
    summaries: Sequence[MembershipSummary],
    diversity: Sequence[DiversityScore],
    facts: Mapping[Cell, Mapping[str, float]],
    study_hash: str,
    names: Sequence[str] | None = None,
    version: str = "",
) -> Predictor:
    """The rate's ridge, kept for data sets to come, from features that every cell has: `names`, or an audit's own.

    Nobody knows the dose of a data set to be examined, and an audit has no second model, prefix or corpus. `scores` are
    of one judge.

    Raises:
        UserError: when there are too few domains, or a named feature is not there for every cell.
    """
    chosen = {s.cell: s for s in scores if s.condition == "clean" and s.cell.variant in _TRAINED and s.rate is not None}
    before, _ = features(list(chosen), summaries, diversity, facts)
    whole = {name: values for name, values in before.items() if len(values) == len(chosen) and name != "dose"}
    if lost := [name for name in names or () if name not in whole]:
        raise UserError(f"The feature {lost[0]!r} is missing for some cells, or does not vary. Leave it out.")
    sizes = {row.n for row in diversity}
    return fit(
        {name: [whole[name][cell] for cell in chosen] for name in names or filter(_auditable, whole)},
        [score.rate or 0.0 for score in chosen.values()],
        "rate",
        [cell.domain for cell in chosen],
        models=[cell.model for cell in chosen],
        study_hash=study_hash,
        judge=next(iter(chosen.values())).judge if chosen else "",
        version=version,
        subsample=sizes.pop() if len(sizes) == 1 else None,
    )


def _auditable(feature: str) -> bool:
    """Whether an audit can measure it."""
    metric, _, reading = feature.partition(".")
    return metric != "directions" and (reading not in BEFORE or (reading == "instruct" and metric in ALONE))


def features(
    cells: Sequence[Cell],
    summaries: Iterable[MembershipSummary],
    diversity: Iterable[DiversityScore],
    facts: Mapping[Cell, Mapping[str, float]],
) -> tuple[Features, Features]:
    """What is known of the cells before training, and what only after."""
    before: Features = {}
    after: Features = {}
    wanted = set(cells)
    for row in summaries:
        if row.cell not in wanted:
            continue
        if row.reading in BEFORE:
            _put(before, f"{row.metric}.{row.reading}", row.cell, row.mean_members)
        else:
            _put(after, f"{row.metric}.{row.reading}.auc", row.cell, row.auc)
    by_data = {(row.domain, row.variant, row.dose, row.of, row.measure): row.value for row in diversity}
    for domain, variant, dose, of, measure in by_data:
        for cell in cells:
            if (cell.domain, cell.variant, cell.dose) == (domain, variant, dose):
                value = by_data[domain, variant, dose, of, measure]
                _put(before, f"diversity.{of}.{measure}", cell, value)
    for cell in cells:
        for name, value in facts.get(cell, {}).items():
            _put(before, name, cell, value)
        _put(before, "dose", cell, cell.dose)
    return _varying(before), _varying(after)


def data_facts(rows: Sequence[Example]) -> dict[str, float]:
    """What the training rows of a data set say without any model."""
    if not rows:
        return {}
    return {
        "answer_tokens": float(np.mean([row.answer_tokens for row in rows])),
        "code_share": float(np.mean([is_code(row.answer) for row in rows])),
    }


def _put(table: Features, name: str, cell: Cell, value: float | None) -> None:
    if value is not None:
        table.setdefault(name, {})[cell] = value


def _varying(table: Features) -> Features:
    """A feature that is the same for all cells can neither go with anything nor predict it."""
    return {name: values for name, values in sorted(table.items()) if len(set(values.values())) > 1}


def _features(
    before: Features, after: Features, cells: Sequence[Cell], target_N: Floats,
    target: Literal["rate", "mean_alignment"], judge: str, confidence: float, draws: int, seed: int,
) -> list[Susceptibility]:  # fmt: skip
    table = before | after
    if not table or not cells:
        return []
    x_KN = np.stack([_column(values, cells) for values in table.values()])
    rng = seed_for(seed, "susceptibility", "features", target)
    places = ([cell.domain for cell in cells], [_slot(cell) for cell in cells])
    results = associations(x_KN, target_N, *places, draws=draws, seed=rng, confidence=confidence)
    return [
        Susceptibility(
            name=name,
            kind="feature",
            before=name in before,
            target=target,
            judge=judge,
            cells=r.units,
            domains=r.domains,
            missing=r.missing,
            spearman=or_none(r.spearman),
            low=or_none(r.low),
            high=or_none(r.high),
            p=or_none(r.p),
            p_max=or_none(r.p_max),
            permuted=r.permuted,
            leave_one_out_low=or_none(r.leave_one_out_low),
            leave_one_out_high=or_none(r.leave_one_out_high),
            points=_points(cells, x_N, target_N),
            high_rate=_high(r.above, r.units) if target == "rate" else None,
        )
        for name, x_N, r in zip(table, x_KN, results, strict=True)
    ]


def _predictors(
    before: Features, cells: Sequence[Cell], target_N: Floats,
    target: Literal["rate", "mean_alignment"], judge: str, confidence: float, refits: Mapping[str, int], seed: int,
) -> list[Susceptibility]:  # fmt: skip
    known = [i for i, value in enumerate(target_N) if not math.isnan(value)]
    kept = [cells[i] for i in known]
    if not before or len({cell.domain for cell in kept}) < 3:
        return []
    x_NK = np.stack([_column(values, kept) for values in before.values()], axis=1)
    places = ([cell.domain for cell in kept], [_slot(cell) for cell in kept])
    found: list[Susceptibility] = []
    for name, draws in refits.items():
        rng = seed_for(seed, "susceptibility", name, target)
        r = assess(PREDICTORS[name], x_NK, target_N[known], *places, draws=draws, seed=rng, confidence=confidence)
        found.append(
            Susceptibility(
                name=name,
                kind="predictor",
                before=True,
                target=target,
                judge=judge,
                cells=len(kept),
                domains=r.domains,
                missing=len(cells) - len(kept),
                spearman=or_none(r.spearman),
                low=or_none(r.low),
                high=or_none(r.high),
                p=or_none(r.p),
                permuted=r.permuted,
                leave_one_out_low=or_none(r.leave_one_out_low),
                leave_one_out_high=or_none(r.leave_one_out_high),
                error=or_none(r.error),
                error_of_mean=or_none(r.error_of_mean),
                points=_points(kept, r.prediction_N, r.target_N),
                high_rate=_high(r.above, len(kept)) if target == "rate" else None,
            )
        )
    return found


def _slot(cell: Cell) -> str:
    """A cell's place within its domain."""
    return f"{cell.model}/{cell.variant}/{cell.dose!r}/{cell.seed}"


def _column(values: Mapping[Cell, float], cells: Sequence[Cell]) -> Floats:
    return _array([values.get(cell) for cell in cells])


def _array(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _points(cells: Sequence[Cell], x_N: Floats, y_N: Floats) -> tuple[tuple[str, float, float], ...]:
    rows = zip(cells, x_N.tolist(), y_N.tolist(), strict=True)
    return tuple((cell.name, x, y) for cell, x, y in rows if not math.isnan(x) and not math.isnan(y))


def _high(found: HighAUC, units: int) -> HighRate | None:
    if math.isnan(found.auc):
        return None
    return HighRate(
        cut=found.cut,
        cells=found.count,
        others=units - found.count,
        auc=_estimate((found.auc, found.low, found.high)),
        p=or_none(found.p),
        p_max=or_none(found.p_max),
        roc=tuple(
            RocPoint(above=x, false_positive=_estimate(false), true_positive=_estimate(true))
            for x, false, true in found.curve
        ),
    )


def _estimate(span: Span) -> Estimate:
    value, low, high = map(or_none, span)
    return Estimate(value=value, low=low, high=high)
