"""What a direction does, compared with what random directions of the same length do to the same answers.

Under the null a direction is one more random one, on the same questions with the same seeds. With the mean m of R
controls and their deviation s, (effect - m) / (s sqrt(1 + 1 / R)) is t distributed. s is pooled over B columns, each
around its own mean: the models that are changed in the same way, or the domains that one model is asked about. But a
random direction is the same in all columns, so that its effects go together and s has fewer degrees of freedom than
all columns count. With the covariance S of the columns over controls they are, after Greenhouse and Geisser (1959),

    df = (tr S)^2 / tr(S^2) x (R - 1)

which lies between R - 1 (columns that move as one) and B (R - 1), and is too small rather than too large where R is
small.

Where hardly an answer is misaligned, controls move nothing, s is next to 0, and two answers of four would pass for an
effect. So `p_holm` is no smaller than the effect's own p over questions: it must also hold for questions like these.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats as scipy_stats

from spillover.records.base import Cell
from spillover.records.steering import SteeringEffect, VersusRandom
from spillover.stats import Floats
from spillover.stats import clustered as stats

_Family = tuple[str, str, str, int, str, str]
_Controls = dict[int, float]
"""By the number of the random direction, its effect."""


def against_controls(effects: Sequence[SteeringEffect], confidence: float) -> list[SteeringEffect]:
    """The effects of directions, each compared with random ones; p adjusted within each operation and measure."""
    controls: defaultdict[_Family, defaultdict[Cell, _Controls]] = defaultdict(lambda: defaultdict(dict))
    for effect in effects:
        if effect.control is not None and effect.value is not None:
            controls[_family(effect)][effect.onto][effect.control] = effect.value
    spreads = {family: pooled_control_sd(_table(by_model)) for family, by_model in controls.items()}
    compared: list[SteeringEffect] = []
    for effect in effects:
        if effect.control is None:
            mine = list(controls[_family(effect)][effect.onto].values())
            deviation, df = spreads.get(_family(effect), (np.nan, np.nan))
            if effect.value is not None and mine and not np.isnan(deviation):
                effect = effect.model_copy(update=compare_with_random(effect.value, mine, deviation, df, confidence))
            compared.append(effect)
    adjusted: dict[str, float] = {}
    for family in {(effect.operation, effect.measure) for effect in compared}:
        tested = [e for e in compared if (e.operation, e.measure) == family and e.p_controls is not None]
        adjusted |= dict(zip((e.id for e in tested), holm(tested), strict=True))
    return [effect.model_copy(update={"p_holm": adjusted.get(effect.id)}) for effect in compared]


def holm(family: Sequence[VersusRandom]) -> list[float]:
    """Holm's p-values against random directions, and no smaller than those over questions."""
    against = stats.holm([1.0 if one.p_controls is None else one.p_controls for one in family])
    return [max(p, 1.0 if one.p is None else one.p) for p, one in zip(against, family, strict=True)]


def pooled_control_sd(values_RB: Floats) -> tuple[float, float]:
    """Standard deviation of R controls pooled over B columns, each around its own mean, and its degrees of freedom.

    NaN where no column has two controls that could be measured.
    """
    values_RB = values_RB[:, np.count_nonzero(~np.isnan(values_RB), axis=0) > 1]
    if not values_RB.size:
        return np.nan, np.nan
    spare_B = np.count_nonzero(~np.isnan(values_RB), axis=0) - 1.0
    away_RB = np.nan_to_num(values_RB - np.nanmean(values_RB, axis=0))
    covariance_BB = away_RB.T @ away_RB / np.sqrt(np.outer(spare_B, spare_B))
    squared = float((covariance_BB**2).sum())
    shape = float(np.trace(covariance_BB)) ** 2 / squared if squared else len(spare_B)
    return float(np.sqrt((away_RB**2).sum() / spare_B.sum())), float(shape * spare_B.mean())


def compare_with_random(
    value: float, controls: Sequence[float], deviation: float, df: float, confidence: float
) -> dict[str, float]:
    """Where a further random direction would lie, and how often as far out as `value`, by fields of `VersusRandom`."""
    mean, error = float(np.mean(controls)), deviation * math.sqrt(1 + 1 / len(controls))
    low, high = prediction_interval(controls, deviation, df, confidence)
    away = abs(value - mean)
    p = 2 * float(scipy_stats.t.sf(away / error, df)) if error else 1.0 if not away else 1 / (len(controls) + 1)
    return {
        "controls": len(controls),
        "controls_mean": mean,
        "controls_low": low,
        "controls_high": high,
        "p_controls": p,
    }


def prediction_interval(
    controls: Sequence[float], deviation: float, df: float, confidence: float
) -> tuple[float, float]:
    """Where a further random direction would lie."""
    mean, error = float(np.mean(controls)), deviation * math.sqrt(1 + 1 / len(controls))
    half = stats.t_quantile(df, confidence) * error
    return mean - half, mean + half


def _family(effect: SteeringEffect) -> _Family:
    """Whose spread is one: the same change of the same base model."""
    return effect.onto.model, effect.operation, effect.at, effect.layer, effect.measure, effect.judge


def _table(by_model: Mapping[Cell, _Controls]) -> Floats:
    """Controls by models; NaN where an effect could not be measured."""
    numbers = sorted({number for controls in by_model.values() for number in controls})
    return np.array([[controls.get(number, np.nan) for controls in by_model.values()] for number in numbers])
