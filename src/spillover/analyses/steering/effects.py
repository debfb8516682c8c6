"""From judged answers of a steered model to points, slopes, and the matrix of directions by domains asked about.

- A point is a cell of its own kind: rate, mean and intervals as of every cell (`spillover.tables.counts`,
  `spillover.stats.clustered`). Its change is against the base model's answers to the same questions with the same
  seeds, paired by question.
- Slope of a measure y over the coefficient c, through all answers of a line: ordinary least squares, questions being
  the sampling units. With S = sum over answers of (c - mean c)^2, a question's influence is
  z_q = sum over its answers of (c - mean c)(y - fit) / S, the variance Q / (Q - 1) sum z_q^2 (the CR1 sandwich), the
  interval t(Q - 1).
- A matrix cell is the base model with A's direction added at one layer and coefficient, asked about domain B. Its
  change is against the same model without it, over the questions to which both have a coherent (of the rate) or a
  scored answer (of alignment), with intervals as in the matrix of trained by asked domain.

Against random directions the change of A about B is compared with theirs about B
(`spillover.analyses.steering.random_controls`), the columns being the domains. Holm over the matrix cells off the
diagonal, and over those on it. Of the other domains together ("others") each direction has questions of its own, and
the spread is its own controls'."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats as scipy_stats

from spillover.analyses.steering.random_controls import beside, holm, spread
from spillover.config.study import RankConfig
from spillover.records.base import MEASURES, STATUSES, Cell, Change, Judgment, Measure, StatusCounts, or_none
from spillover.records.steering import (
    UNTOUCHED,
    Steering,
    SteeringEffect,
    SteeringMatrixCell,
    SteeringPoint,
    SteeringSample,
    VersusRandom,
)
from spillover.records.transfer import OTHERS
from spillover.stats import Bools, Floats
from spillover.stats import clustered as stats
from spillover.stats.clustered import Differences
from spillover.tables.counts import Rows, Tally, count, rows_of

_FIELDS: dict[Measure, str] = {"rate": "rate_change", "alignment": "alignment_change"}


class Steered:
    """The answers of one model under its interventions, counted: P of them, Q questions.

    `collapsed`: which interventions were the last of their line, because too few answers were coherent.
    """

    def __init__(
        self,
        rows: Sequence[SteeringSample],
        judgments: Sequence[Judgment],
        config: RankConfig,
        collapsed: Sequence[Steering] = (),
    ) -> None:
        self.steerings = list(dict.fromkeys(row.steering for row in rows))
        self.onto: Cell = rows[0].cell
        self.config = config
        self._collapsed = set(collapsed)
        self.amounts = {row.steering: row.amount for row in rows}
        self.themes = {row.question_id: row.theme for row in rows}
        number = {steering: place for place, steering in enumerate(self.steerings)}
        joined = rows_of(rows, judgments)
        self.judge = next(iter(joined.judges), "")
        point_N = np.array([number[row.steering] for row in rows], dtype=np.int64)
        keys = tuple((self.onto, rows[0].condition) for _ in self.steerings)
        self.rows: Rows = replace(joined, keys=keys, group_N=point_N)
        self.table: Tally = count(self.rows, config)

    def coherent_share(self, steering: Steering) -> float:
        """Coherent among all answers under one intervention."""
        place = self.steerings.index(steering)
        return float(self.table.coherent_GQ[place].sum() / self.table.n_GQ[place].sum())

    def sums(self, measure: Measure) -> tuple[Floats, Floats]:
        """Sum of a measure and the count of answers that have it, by intervention and question."""
        t = self.table
        return (t.misaligned_GQ, t.coherent_GQ) if measure == "rate" else (t.alignment_GQ, t.scored_GQ)

    def points(self) -> list[SteeringPoint]:
        """One for each intervention, the base model's first."""
        table, confidence = self.table, self.config.confidence
        places = range(len(self.steerings))
        base = [self.steerings.index(UNTOUCHED)] * len(self.steerings)
        rates, means = table.rates(places), table.means(places)
        low_P, high_P = stats.rate_intervals(rates, confidence)
        mean_low_P, mean_high_P = stats.mean_intervals(means, confidence)
        of_rate = stats.paired_rate_differences(rates, table.rates(base), confidence)
        of_mean = stats.paired_mean_differences(means, table.means(base), confidence)
        points: list[SteeringPoint] = []
        for p, steering in enumerate(self.steerings):
            n, coherent = int(table.n_GQ[p].sum()), int(table.coherent_GQ[p].sum())
            points.append(
                SteeringPoint(
                    onto=self.onto,
                    steering=steering,
                    judge=self.judge,
                    amount=self.amounts[steering],
                    n=n,
                    counts=StatusCounts(**dict(zip(STATUSES, table.status_GS[p].tolist(), strict=True))),
                    incoherent=int(table.incoherent_GQ[p].sum()),
                    coherent=coherent,
                    misaligned=int(table.misaligned_GQ[p].sum()),
                    questions=int(np.count_nonzero(table.n_GQ[p])),
                    coherent_share=coherent / n if n else None,
                    rate=or_none(rates.value_C[p]),
                    low=or_none(low_P[p]),
                    high=or_none(high_P[p]),
                    mean_alignment=or_none(means.value_C[p]),
                    mean_alignment_low=or_none(np.clip(mean_low_P[p], 0, 100)),
                    mean_alignment_high=or_none(np.clip(mean_high_P[p], 0, 100)),
                    rate_change=None if steering == UNTOUCHED else _change(of_rate, p),
                    alignment_change=None if steering == UNTOUCHED else _change(of_mean, p),
                    collapsed=steering in self._collapsed,
                )
            )
        return points

    def effects(self) -> list[SteeringEffect]:
        """One for each line of interventions and measure: a slope, or the change that an ablation makes."""
        lines: defaultdict[Steering, list[int]] = defaultdict(list)
        for place, steering in enumerate(self.steerings):
            if steering != UNTOUCHED:
                lines[steering.model_copy(update={"coefficient": 0.0})].append(place)
        return [self._effect(line, places, measure) for line, places in lines.items() for measure in MEASURES]

    def _effect(self, line: Steering, places: list[int], measure: Measure) -> SteeringEffect:
        base = self.steerings.index(UNTOUCHED)
        used = [base, *(place for place in places if self.steerings[place] not in self._collapsed)]
        sum_GQ, n_GQ = self.sums(measure)
        if line.operation == "clamp":
            used = used[1:]  # clamped to 0 is not untouched
        c_K = np.array([self.steerings[place].coefficient for place in used])
        if len(used) < 2:
            found = Change(value=None, low=None, high=None, p=None)  # nothing coherent to compare
        elif line.operation == "ablate":
            found = self._ablated(places[0], base, measure)
        else:
            found = slope(c_K, sum_GQ[used], n_GQ[used], self.config.confidence)
        assert line.operation is not None
        assert line.layer is not None
        return SteeringEffect(
            onto=self.onto,
            **line.model_dump(exclude={"coefficient"}),
            measure=measure,
            judge=self.judge,
            coefficients=tuple(c_K.tolist()),
            n=int(n_GQ[used].sum()),
            questions=int(np.count_nonzero(n_GQ[used].sum(0))),
            **found.model_dump(),
        )

    def _ablated(self, place: int, base: int, measure: Measure) -> Change:
        if measure == "rate":
            rates = self.table.rates([place]), self.table.rates([base])
            return _change(stats.paired_rate_differences(*rates, self.config.confidence), 0)
        means = self.table.means([place]), self.table.means([base])
        return _change(stats.paired_mean_differences(*means, self.config.confidence), 0)


def slope(c_K: Floats, sum_KQ: Floats, n_KQ: Floats, confidence: float) -> Change:
    """Of the mean of y over c, from each point's and question's sum and count."""
    answers, questions = n_KQ.sum(), int(np.count_nonzero(n_KQ.sum(0)))
    away_K = c_K - (c_K @ n_KQ.sum(1)) / max(answers, 1.0)
    spread = away_K**2 @ n_KQ.sum(1)
    if len(set(c_K[n_KQ.any(1)])) < 2 or questions < 2:
        return Change(value=None, low=None, high=None, p=None)
    above_KQ = sum_KQ - sum_KQ.sum() / answers * n_KQ  # the mean taken off first: a measure that stands still is flat
    value = float(away_K @ above_KQ.sum(1) / spread)
    influence_Q = away_K @ (above_KQ - (value * away_K)[:, None] * n_KQ) / spread
    error = math.sqrt(questions / (questions - 1) * float(influence_Q @ influence_Q))
    half = stats.t_quantile(questions - 1, confidence) * error
    p = 2 * float(scipy_stats.t.sf(abs(value) / error, questions - 1)) if error else float(value == 0)
    return Change(value=value, low=value - half, high=value + half, p=p)


def _change(differences: Differences, place: int) -> Change:
    values = (differences.value_CC, differences.low_CC, differences.high_CC, differences.p_CC)
    value, low, high, p = (or_none(array[place]) for array in values)
    return Change(value=value, low=low, high=high, p=p)


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
            change = VersusRandom(**_change(changes, i).model_dump())
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
    low, high = stats.rate_intervals(rates, found.config.confidence)
    mine_N = (found.rows.group_N == p) & mask[found.rows.question_N]
    statuses_S = np.bincount(found.rows.status_N[mine_N], minlength=len(STATUSES))
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
        n=int(table.n_GQ[p, mask].sum()),
        counts=StatusCounts(**dict(zip(STATUSES, statuses_S.tolist(), strict=True))),
        incoherent=int(table.incoherent_GQ[p, mask].sum()),
        coherent=int(table.coherent_GQ[p, mask].sum()),
        misaligned=int(table.misaligned_GQ[p, mask].sum()),
        questions=int(np.count_nonzero(table.n_GQ[p, mask])),
        rate=or_none(rates.value_C[0]),
        low=or_none(low[0]),
        high=or_none(high[0]),
        mean_alignment=or_none(means.value_C[0]),
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
