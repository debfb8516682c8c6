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

from spillover.directions.random_controls import beside, holm, spread
from spillover.directions.steering_effects import Steered, as_change
from spillover.records.base import MEASURES, STATUSES, Measure
from spillover.records.steering import UNTOUCHED, Steering, SteeringMatrixCell, VersusRandom
from spillover.records.transfer import OTHERS
from spillover.stats import Bools
from spillover.stats import clustered as stats
from spillover.stats.clustered import Differences

_FIELDS: dict[Measure, str] = {"rate": "rate_change", "alignment": "alignment_change"}


def squares(found: Steered) -> list[SteeringMatrixCell]:
    """Every direction by every domain asked about, the base model first; one layer and one coefficient."""
    domain_Q = np.array([found.themes[question] for question in found.table.questions])
    columns: dict[str, Bools] = {domain: domain_Q == domain for domain in sorted(set(domain_Q.tolist()))}
    controls = [p for p, steering in enumerate(found.steerings) if steering.control is not None]
    real = [p for p, steering in enumerate(found.steerings) if steering.control is None and steering != UNTOUCHED]
    example = found.steerings[(real or controls)[0]]
    made = [_square(found, UNTOUCHED, example, domain, mask) for domain, mask in columns.items()]
    spreads: dict[Measure, tuple[float, float]] = {}
    for measure in MEASURES:
        values_BR = [_changes(found, controls, mask, measure).value_CC for mask in columns.values()]
        spreads[measure] = spread(np.array(values_BR).T)
    for domain, mask in columns.items():
        made += _column(found, real, controls, domain, mask, spreads)
    for place in real:
        mask = domain_Q != found.steerings[place].direction
        if not mask.any():
            continue
        own: dict[Measure, tuple[float, float]] = {
            measure: spread(_changes(found, controls, mask, measure).value_CC[:, None]) for measure in MEASURES
        }
        made += _column(found, [place], controls, OTHERS, mask, own)
    return _adjusted(made)


def _column(
    found: Steered,
    places: Sequence[int],
    controls: Sequence[int],
    asked: str,
    mask: Bools,
    spreads: dict[Measure, tuple[float, float]],
) -> list[SteeringMatrixCell]:
    made = [_square(found, found.steerings[p], found.steerings[p], asked, mask) for p in places]
    for measure in MEASURES:
        changes, of_controls = (_changes(found, which, mask, measure) for which in (places, controls))
        known = [float(value) for value in of_controls.value_CC if not np.isnan(value)]
        deviation, df = spreads[measure]
        for i, square in enumerate(made):
            change = VersusRandom(**as_change(changes, i).model_dump())
            if change.value is not None and known and not np.isnan(deviation):
                change = change.model_copy(update=beside(change.value, known, deviation, df, found.config.confidence))
            made[i] = square.model_copy(update={_FIELDS[measure]: change})
    return made


def _changes(found: Steered, places: Sequence[int], mask: Bools, measure: Measure) -> Differences:
    """Against the base model, over the questions of a column to which both have an answer that counts."""
    sum_GQ, n_GQ = found.sums(measure)
    rows, bases = list(places), [found.steerings.index(UNTOUCHED)] * len(places)
    shared_PQ = (n_GQ[rows] > 0) & (n_GQ[bases] > 0) & mask
    pair = [(sum_GQ[chosen] * shared_PQ, n_GQ[chosen] * shared_PQ) for chosen in (rows, bases)]
    confidence = found.config.confidence
    if measure == "rate":
        rates = [stats.clustered_rates(*sums) for sums in pair]
        return stats.paired_rate_differences(rates[0], rates[1], confidence, moderated=True)
    means = [stats.clustered_means(*sums) for sums in pair]
    return stats.paired_mean_differences(means[0], means[1], confidence)


def _square(found: Steered, steering: Steering, like: Steering, asked: str, mask: Bools) -> SteeringMatrixCell:
    """Without its changes; `like`: an intervention of the matrix, with the same layer and coefficient."""
    table, p = found.table, found.steerings.index(steering)
    rates, means = table.rates([p], mask), table.means([p], mask)
    mine_N = (found.rows.group_N == p) & mask[found.rows.question_N]
    statuses_S = np.bincount(found.rows.status_N[mine_N], minlength=len(STATUSES))
    (summary,) = table.rate_summaries([p], rates, means, found.config.confidence, mask, statuses_S[None])
    assert like.layer is not None
    return SteeringMatrixCell(
        onto=found.onto,
        direction=steering.direction,
        source=steering.source,
        labels=steering.labels,
        asked=asked,
        at=like.at,
        layer=like.layer,
        coefficient=like.coefficient,
        amount=found.amounts[steering],
        judge=found.judge,
        **dict(summary),
    )


def _adjusted(made: list[SteeringMatrixCell]) -> list[SteeringMatrixCell]:
    """With Holm's p-values over each family."""
    for name in _FIELDS.values():
        families: defaultdict[tuple[bool, bool], list[tuple[int, VersusRandom]]] = defaultdict(list)
        for i, square in enumerate(made):
            change: VersusRandom | None = getattr(square, name)
            if change is not None and change.p_controls is not None:
                families[square.in_domain, square.asked == OTHERS].append((i, change))
        for members in families.values():
            for (i, change), p in zip(members, holm([change for _, change in members]), strict=True):
                made[i] = made[i].model_copy(update={name: change.model_copy(update={"p_holm": p})})
    return made
