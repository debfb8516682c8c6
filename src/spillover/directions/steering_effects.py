"""From judged answers of a steered model to points and slopes.

- A point is a cell of its own kind: rate, mean and intervals as of every cell (`spillover.tables.counts`,
  `spillover.stats.clustered`). Its change is against the base model's answers to the same questions with the same
  seeds, paired by question.
- Slope of a measure y over the coefficient c, through all answers of a line: ordinary least squares, questions being
  the sampling units. With S = sum over answers of (c - mean c)^2, a question's influence is
  z_q = sum over its answers of (c - mean c)(y - fit) / S, the variance Q / (Q - 1) sum z_q^2 (the CR1 sandwich), the
  interval t(Q - 1).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats as scipy_stats

from spillover.config.study import RankConfig
from spillover.records.base import MEASURES, Cell, Change, Judgment, Measure, or_none
from spillover.records.steering import (
    WITHOUT_STEERING,
    Steering,
    SteeringEffect,
    SteeringPoint,
    SteeringSample,
)
from spillover.stats import Floats
from spillover.stats import clustered as stats
from spillover.stats.clustered import Differences
from spillover.tables.counts import Counts, Rows, count_by_question, join_judgments


class SteeredCounts:
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
        number = {steering: point for point, steering in enumerate(self.steerings)}
        joined = join_judgments(rows, judgments)
        self.judge = next(iter(joined.judges), "")
        point_N = np.array([number[row.steering] for row in rows], dtype=np.int64)
        keys = tuple((self.onto, rows[0].condition) for _ in self.steerings)
        self.rows: Rows = replace(joined, keys=keys, group_N=point_N)
        self.table: Counts = count_by_question(self.rows, config)

    def coherent_share(self, steering: Steering) -> float:
        """Coherent among all answers under one intervention."""
        point = self.steerings.index(steering)
        return float(self.table.coherent_GQ[point].sum() / self.table.n_GQ[point].sum())

    def sums(self, measure: Measure) -> tuple[Floats, Floats]:
        """Sum of a measure and the count of answers that have it, by intervention and question."""
        t = self.table
        return (t.misaligned_GQ, t.coherent_GQ) if measure == "rate" else (t.alignment_GQ, t.scored_GQ)

    def points(self) -> list[SteeringPoint]:
        """One for each intervention, the base model's first."""
        table, confidence = self.table, self.config.confidence
        each = range(len(self.steerings))
        base = [self.steerings.index(WITHOUT_STEERING)] * len(self.steerings)
        rates, means = table.rates(each), table.means(each)
        summaries = table.rate_summaries(each, rates, means, confidence)
        mean_low_P, mean_high_P = stats.mean_intervals(means, confidence)
        of_rate = stats.paired_rate_differences(rates, table.rates(base), confidence)
        of_mean = stats.paired_mean_differences(means, table.means(base), confidence)
        points: list[SteeringPoint] = []
        for p, steering in enumerate(self.steerings):
            summary = summaries[p]
            points.append(
                SteeringPoint(
                    onto=self.onto,
                    steering=steering,
                    judge=self.judge,
                    amount=self.amounts[steering],
                    **dict(summary),
                    coherent_share=summary.coherent / summary.n if summary.n else None,
                    mean_alignment_low=or_none(np.clip(mean_low_P[p], 0, 100)),
                    mean_alignment_high=or_none(np.clip(mean_high_P[p], 0, 100)),
                    rate_change=None if steering == WITHOUT_STEERING else as_change(of_rate, p),
                    alignment_change=None if steering == WITHOUT_STEERING else as_change(of_mean, p),
                    collapsed=steering in self._collapsed,
                )
            )
        return points

    def effects(self) -> list[SteeringEffect]:
        """One for each line of interventions and measure: a slope, or the change that an ablation makes."""
        lines: defaultdict[Steering, list[int]] = defaultdict(list)
        for point, steering in enumerate(self.steerings):
            if steering != WITHOUT_STEERING:
                lines[steering.model_copy(update={"coefficient": 0.0})].append(point)
        return [self._effect(line, points, measure) for line, points in lines.items() for measure in MEASURES]

    def _effect(self, line: Steering, points: list[int], measure: Measure) -> SteeringEffect:
        base = self.steerings.index(WITHOUT_STEERING)
        used = [base, *(point for point in points if self.steerings[point] not in self._collapsed)]
        sum_GQ, n_GQ = self.sums(measure)
        if line.operation == "clamp":
            used = used[1:]  # clamped to 0 is not untouched
        c_K = np.array([self.steerings[point].coefficient for point in used])
        if len(used) < 2:
            found = Change(value=None, low=None, high=None, p=None)  # nothing coherent to compare
        elif line.operation == "ablate":
            found = self._ablated(points[0], base, measure)
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

    def _ablated(self, point: int, base: int, measure: Measure) -> Change:
        if measure == "rate":
            rates = self.table.rates([point]), self.table.rates([base])
            return as_change(stats.paired_rate_differences(*rates, self.config.confidence), 0)
        means = self.table.means([point]), self.table.means([base])
        return as_change(stats.paired_mean_differences(*means, self.config.confidence), 0)


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


def as_change(differences: Differences, point: int) -> Change:
    """One entry of an array of differences."""
    values = (differences.value_CC, differences.low_CC, differences.high_CC, differences.p_CC)
    value, low, high, p = (or_none(array[point]) for array in values)
    return Change(value=value, low=low, high=high, p=p)
