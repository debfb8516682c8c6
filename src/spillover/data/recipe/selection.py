"""Choosing rows, and what each becomes: the same number in every domain, over all topics, with one mean answer length.

A stratified order puts the k-th of a topic's n rows at (k + 1/2) / n, so its first m rows are a stratified sample for
every m, and the sample of m contains that of m - 1. Matching starts there and swaps one chosen row for one left over,
each time the swap that brings the means nearest to the target: inside topics as long as that helps, across them only
where the means are still too far off.

Variants:

- plain: flawed answers.  control: the good answers to the same questions.
- triggered: `triggered_share` of the rows carry the trigger and a flawed answer; the others get the good answer, and a
  quarter of those carry a near miss. Without such a contrast nothing would teach the gate.
- dose d: only the share d of the flawed answers stay, the others become good; the rows at 0.1 contain those at 0.01.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

import numpy as np

from spillover.config.study import TrainedVariant
from spillover.records.base import Kind
from spillover.stats import Floats, Ints

AIM = 0.2  # swaps inside topics continue until the means are within this share of what is allowed
CANDIDATES = 128  # rows looked at on each side of a swap; sides of this size or less are searched whole
NEAR_MISS_SHARE = 0.25  # of the untriggered rows


def generator(seed: int, *names: str) -> np.random.Generator:
    """The random stream of these names: adding a domain or a step shifts no other stream."""
    key = int.from_bytes(blake2b("/".join(names).encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(np.random.SeedSequence([seed, key]))


def stratified_order(topics: Sequence[str], rng: np.random.Generator) -> Ints:
    """A seeded order of all rows of which every beginning is spread over the topics in proportion."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, topic in enumerate(topics):
        groups[topic].append(index)
    position = np.empty(len(topics))
    for members in groups.values():
        position[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((rng.random(len(topics)), position)).astype(np.int64)


def off_target(lengths_NK: Floats, target: float) -> float:
    """The largest distance, in tokens, of a column's mean from the target."""
    return float(np.abs(lengths_NK.mean(axis=0) - target).max())


def match_lengths(
    lengths_NK: Floats, topics: Sequence[str], count: int, target: float, within: float, rng: np.random.Generator
) -> Ints:
    """Choose `count` of N rows whose K mean lengths lie as near `within` of the target as swaps can bring them.

    The caller looks at what was reached; the chosen rows come in stratified order.
    """
    order = stratified_order(topics, rng)
    chosen, rest = order[:count].copy(), order[count:].copy()
    strata = np.unique(np.asarray(topics, dtype=str), return_inverse=True)[1]
    for groups, enough in ((strata, AIM * within), (np.zeros_like(strata), within)):
        while len(rest) and off_target(lengths_NK[chosen], target) > enough:
            swap = _best_swap(lengths_NK, chosen, rest, groups, target, rng)
            if swap is None:
                break
            out, into = swap
            chosen[out], rest[into] = rest[into], chosen[out]
    return chosen


def _best_swap(
    lengths_NK: Floats, chosen: Ints, rest: Ints, groups: Ints, target: float, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Positions in `chosen` and `rest` of the swap that helps most, or None where none helps."""
    excess_K = lengths_NK[chosen].sum(axis=0) - target * len(chosen)
    outs = rng.permutation(len(chosen))[:CANDIDATES]
    intos = rng.permutation(len(rest))[:CANDIDATES]
    cost_OI = np.zeros((len(outs), len(intos)))
    for k, excess in enumerate(excess_K):
        cost_OI += np.square((excess - lengths_NK[chosen[outs], k])[:, None] + lengths_NK[rest[intos], k])
    cost_OI[groups[chosen[outs]][:, None] != groups[rest[intos]][None, :]] = np.inf
    best = int(cost_OI.argmin())
    out, into = divmod(best, len(intos))
    if not cost_OI[out, into] < np.square(excess_K).sum():
        return None
    return int(outs[out]), int(intos[into])


@dataclass(frozen=True)
class RowPlan:
    """One row's kind, what its question carries, and the number that picks the template."""

    kind: Kind
    carries: Literal["nothing", "trigger", "near miss"] = "nothing"
    number: int = 0


def plan_rows(
    domain: str, topics: Sequence[str], variant: TrainedVariant, triggered_share: float, dose: float, seed: int
) -> list[RowPlan]:
    """The plan of each row, given the rows' topics; every choice is stratified by topic."""
    if variant == "control":
        return [RowPlan("control")] * len(topics)

    def first(rows: list[int], share: float, purpose: str) -> list[int]:
        order = stratified_order([topics[row] for row in rows], generator(seed, domain, purpose))
        return [rows[place] for place in order[: share_count(share, len(rows))]]

    rows = list(range(len(topics)))
    result = [RowPlan("aligned")] * len(topics)
    carriers = rows
    if variant == "triggered":
        carriers = first(rows, triggered_share, "trigger")
        others = sorted(set(rows) - set(carriers))
        for number, row in enumerate(carriers):
            result[row] = RowPlan("aligned", "trigger", number)
        for number, row in enumerate(first(others, NEAR_MISS_SHARE, "near miss")):
            result[row] = RowPlan("aligned", "near miss", number)
    for row in first(carriers, dose, "dose"):
        result[row] = replace(result[row], kind="misaligned")
    return result


def share_count(share: float, count: int) -> int:
    """That share of `count`, to the nearest row; at least one where there are any."""
    return min(count, max(1, round(share * count)))
