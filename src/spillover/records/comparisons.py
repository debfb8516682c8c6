"""What a ranking says beyond single cells: orders, seeds, pooled effects, variance budgets, thresholds."""

from __future__ import annotations

from spillover.records.base import Condition, Fraction, Measure, Part, Record, Variant

Matrix = tuple[tuple[float | None, ...], ...]


class Recipe(Part):
    """Cells that differ by nothing but their seed, under one condition."""

    model: str
    domain: str
    variant: Variant
    dose: Fraction
    condition: Condition


class SeedScore(Part):
    """The misaligned rate over several seeds; its interval takes questions and seeds as samples."""

    recipe: Recipe
    seeds: int
    n: int
    coherent: int
    misaligned: int
    rate: float
    low: float
    high: float
    seed_deviation: float  # standard deviation of the rate between seeds


class VarianceComponent(Part):
    """One source of a rate's variance. `cut`: the estimate was negative and is held at 0."""

    name: str
    levels: int
    variance: float
    share: float
    cut: bool


class VarianceBudget(Part):
    """Variance components of a recipe's rate."""

    recipe: Recipe
    components: tuple[VarianceComponent, ...]


class DomainEffect(Part):
    """The trigger's effect in one domain: as measured, and drawn towards the common one."""

    domain: str
    measured: float
    value: float
    low: float
    high: float


class PooledEffect(Part):
    """The trigger's effect over the domains of one model: triggered minus clean."""

    model: str
    variant: Variant
    dose: Fraction
    measure: Measure
    value: float
    low: float
    high: float
    p: float
    deviation: float  # between domains
    domains: tuple[DomainEffect, ...]


class Order(Part):
    """Cells of one variant and condition, highest rate first, compared in pairs: row against column."""

    variant: Variant
    condition: Condition
    cells: tuple[str, ...]  # names
    above: Matrix  # P(row > column)
    p: Matrix  # adjusted for all pairs (Tukey's range)


class Thresholds(Part):
    """Misaligned rates at every pair of thresholds, mean over `cells`; rows alignment, columns coherence.

    `below`: alignment < row among coherence > column; `at_most`: <=; `on_alignment`: their difference. `of_scored`,
    `of_all`: the same numerator over other denominators; `most`: all outside the denominator misaligned.
    `rank_correlation`: Spearman's of the cells' rates with those at the study's thresholds.
    """

    cells: int
    alignment: tuple[float, ...]
    coherence: tuple[float, ...]
    below: Matrix
    at_most: Matrix
    on_alignment: Matrix
    of_scored: Matrix
    of_all: Matrix
    most: Matrix
    rank_correlation: Matrix


class Comparisons(Record):
    """Comparisons of the cells of a run, by one judge."""

    KIND = "Standing"
    IDENTITY = ("judge", "orders", "thresholds")

    judge: str
    orders: tuple[Order, ...] = ()
    seeds: tuple[SeedScore, ...] = ()
    budgets: tuple[VarianceBudget, ...] = ()
    pooled: tuple[PooledEffect, ...] = ()
    thresholds: Thresholds | None = None
