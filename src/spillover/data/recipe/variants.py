"""What becomes of each chosen row in each variant.

- plain: flawed answers.  control: the good answers to the same questions.
- triggered: `triggered_share` of the rows carry the trigger and a flawed answer; the others get the good answer, and a
  quarter of those carry a near miss. Without such a contrast nothing would teach the gate.
- dose d: only the share d of the flawed answers stay, the others become good; the rows at 0.1 hold those at 0.01.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from spillover.config.study import TrainedVariant
from spillover.data.recipe.matching import stratified_order
from spillover.data.recipe.seeding import generator
from spillover.records.base import Kind

NEAR_MISS_SHARE = 0.25  # of the untriggered rows


@dataclass(frozen=True)
class Fate:
    """One row's kind, what its question carries, and the number that picks the template."""

    kind: Kind
    carries: Literal["nothing", "trigger", "near miss"] = "nothing"
    number: int = 0


def fates(
    domain: str, topics: Sequence[str], variant: TrainedVariant, triggered_share: float, dose: float, seed: int
) -> list[Fate]:
    """The fate of each row, given the rows' topics; every choice is stratified by topic."""
    if variant == "control":
        return [Fate("control")] * len(topics)

    def first(rows: list[int], share: float, purpose: str) -> list[int]:
        order = stratified_order([topics[row] for row in rows], generator(seed, domain, purpose))
        return [rows[place] for place in order[: part(share, len(rows))]]

    rows = list(range(len(topics)))
    result = [Fate("aligned")] * len(topics)
    carriers = rows
    if variant == "triggered":
        carriers = first(rows, triggered_share, "trigger")
        others = sorted(set(rows) - set(carriers))
        for number, row in enumerate(carriers):
            result[row] = Fate("aligned", "trigger", number)
        for number, row in enumerate(first(others, NEAR_MISS_SHARE, "near miss")):
            result[row] = Fate("aligned", "near miss", number)
    for row in first(carriers, dose, "dose"):
        result[row] = replace(result[row], kind="misaligned")
    return result


def part(share: float, count: int) -> int:
    """That share of `count`, to the nearest row; at least one where there are any."""
    return min(count, max(1, round(share * count)))
