"""The matrix of directions by domains asked about, from judged answers to held-out questions.

A matrix cell is the base model with A's direction added at one layer and coefficient, asked about domain B. Its
change is against the same model without it, over the questions to which both have a coherent (of the rate) or a
scored answer (of alignment), with intervals as in the matrix of trained by asked domain.

Against random directions the change of A about B is compared with theirs about B
(`spillover.directions.random_controls`), the columns being the domains. Holm over the matrix cells off the
diagonal, and over those on it. Of the other domains together ("others") each direction has questions of its own, and
the spread is its own controls'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from spillover.directions.random_controls import compare_with_random, holm, pooled_control_sd
from spillover.directions.steering_effects import SteeredCounts, as_change
from spillover.records.base import MEASURES, STATUSES, Measure
from spillover.records.steering import WITHOUT_STEERING, Steering, SteeringMatrixCell, VersusRandom
from spillover.records.transfer import OTHERS
from spillover.stats import Bools
from spillover.stats import clustered as stats
from spillover.stats.clustered import Differences

_FIELDS: dict[Measure, str] = {"rate": "rate_change", "alignment": "alignment_change"}


def matrix_cells(counts: SteeredCounts) -> list[SteeringMatrixCell]:
    """Every direction by every domain asked about, the base model first; one layer and one coefficient."""
    domain_Q = np.array([counts.themes[question] for question in counts.table.questions])
    columns: dict[str, Bools] = {domain: domain_Q == domain for domain in sorted(set(domain_Q.tolist()))}
    controls = [p for p, steering in enumerate(counts.steerings) if steering.control is not None]
    directions = [
        p for p, steering in enumerate(counts.steerings) if steering.control is None and steering != WITHOUT_STEERING
    ]
    example = counts.steerings[(directions or controls)[0]]
    cells = [_matrix_cell(counts, WITHOUT_STEERING, example, domain, mask) for domain, mask in columns.items()]
    control_sds: dict[Measure, tuple[float, float]] = {}
    for measure in MEASURES:
        values_BR = [_changes(counts, controls, mask, measure).value_CC for mask in columns.values()]
        control_sds[measure] = pooled_control_sd(np.array(values_BR).T)
    for domain, mask in columns.items():
        cells += _column(counts, directions, controls, domain, mask, control_sds)
    for point in directions:
        mask = domain_Q != counts.steerings[point].direction
        if not mask.any():
            continue
        own_sds: dict[Measure, tuple[float, float]] = {
            measure: pooled_control_sd(_changes(counts, controls, mask, measure).value_CC[:, None])
            for measure in MEASURES
        }
        cells += _column(counts, [point], controls, OTHERS, mask, own_sds)
    return _adjusted(cells)


def _column(
    counts: SteeredCounts,
    points: Sequence[int],
    controls: Sequence[int],
    asked: str,
    mask: Bools,
    control_sds: dict[Measure, tuple[float, float]],
) -> list[SteeringMatrixCell]:
    cells = [_matrix_cell(counts, counts.steerings[p], counts.steerings[p], asked, mask) for p in points]
    for measure in MEASURES:
        changes, of_controls = (_changes(counts, which, mask, measure) for which in (points, controls))
        known = [float(value) for value in of_controls.value_CC if not np.isnan(value)]
        deviation, df = control_sds[measure]
        for i, cell in enumerate(cells):
            change = VersusRandom(**as_change(changes, i).model_dump())
            if change.value is not None and known and not np.isnan(deviation):
                change = change.model_copy(
                    update=compare_with_random(change.value, known, deviation, df, counts.config.confidence)
                )
            cells[i] = cell.model_copy(update={_FIELDS[measure]: change})
    return cells


def _changes(counts: SteeredCounts, points: Sequence[int], mask: Bools, measure: Measure) -> Differences:
    """Against the base model, over the questions of a column to which both have an answer that counts."""
    sum_GQ, n_GQ = counts.sums(measure)
    rows, bases = list(points), [counts.steerings.index(WITHOUT_STEERING)] * len(points)
    shared_PQ = (n_GQ[rows] > 0) & (n_GQ[bases] > 0) & mask
    pair = [(sum_GQ[chosen] * shared_PQ, n_GQ[chosen] * shared_PQ) for chosen in (rows, bases)]
    confidence = counts.config.confidence
    if measure == "rate":
        rates = [stats.clustered_rates(*sums) for sums in pair]
        return stats.paired_rate_differences(rates[0], rates[1], confidence, moderated=True)
    means = [stats.clustered_means(*sums) for sums in pair]
    return stats.paired_mean_differences(means[0], means[1], confidence)


def _matrix_cell(
    counts: SteeredCounts, steering: Steering, example: Steering, asked: str, mask: Bools
) -> SteeringMatrixCell:
    """Without its changes; `example`: an intervention of the matrix, with the same layer and coefficient."""
    table, p = counts.table, counts.steerings.index(steering)
    rates, means = table.rates([p], mask), table.means([p], mask)
    mine_N = (counts.rows.group_N == p) & mask[counts.rows.question_N]
    statuses_S = np.bincount(counts.rows.status_N[mine_N], minlength=len(STATUSES))
    (summary,) = table.rate_summaries([p], rates, means, counts.config.confidence, mask, statuses_S[None])
    assert example.layer is not None
    return SteeringMatrixCell(
        onto=counts.onto,
        direction=steering.direction,
        source=steering.source,
        labels=steering.labels,
        asked=asked,
        at=example.at,
        layer=example.layer,
        coefficient=example.coefficient,
        amount=counts.amounts[steering],
        judge=counts.judge,
        **dict(summary),
    )


def _adjusted(cells: list[SteeringMatrixCell]) -> list[SteeringMatrixCell]:
    """With Holm's p-values over each family."""
    for name in _FIELDS.values():
        families: defaultdict[tuple[bool, bool], list[tuple[int, VersusRandom]]] = defaultdict(list)
        for i, cell in enumerate(cells):
            change: VersusRandom | None = getattr(cell, name)
            if change is not None and change.p_controls is not None:
                families[cell.in_domain, cell.asked == OTHERS].append((i, change))
        for members in families.values():
            for (i, change), p in zip(members, holm([change for _, change in members]), strict=True):
                cells[i] = cells[i].model_copy(update={name: change.model_copy(update={"p_holm": p})})
    return cells
