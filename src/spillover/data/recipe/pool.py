"""The pairs that a data set may be chosen from, and the choice: held-out questions first, then training rows.

Non-members, which never train, are chosen with the training rows in the same way. One draw among all of them, after
every filter and every matching, decides which of the two a row is, so nothing but training separates members from
non-members.

The choice depends on the domain, the data settings, the tokenizer and the seed alone, never on the variant, so that a
domain's plain, triggered and control data sets share their questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.config.study import NONMEMBERS, DataConfig
from spillover.data.domains.base import Domain, Pair
from spillover.data.recipe.duplicates import KnownTexts, near_duplicates, near_duplicates_in_meaning, normalised
from spillover.data.recipe.selection import generator, match_lengths, off_target
from spillover.data.sources.sources import open_source
from spillover.data.triggers.base import Trigger
from spillover.errors import UserError
from spillover.provenance import seed_for
from spillover.records.base import Example
from spillover.stats import Floats, Ints

CountTokens = Callable[[Sequence[str]], list[int]]
DRAWS = 200  # splits into members and non-members, until the training rows have the target mean length


@dataclass(frozen=True)
class Pool:
    """Pairs fit to train on; `tokens` of the N flawed and, where there are any, good answers, of shape (N, 1 or 2)."""

    domain: str
    pairs: list[Pair]
    tokens: Floats
    dropped: Counter[str]
    licence: str
    source: str
    reading: str  # how the source was read

    @property
    def has_good(self) -> bool:
        return self.tokens.shape[1] == 2


def collect_pairs(domain: Domain, data: DataConfig, trigger: Trigger, seed: int, count_tokens: CountTokens) -> Pool:
    """Every pair of the domain, or of the source in its place, that passes the checks; without duplicates."""
    source = open_source(domain, data, generator(seed, domain.name, "pairs"))
    dropped = source.dropped.copy()
    fit: dict[str, Pair] = {}
    for pair in source.pairs:
        reason = source.check(pair)
        if reason is None and trigger.value in pair.question:
            reason = "the question holds the trigger"
        if reason is None and (trigger.value in pair.flawed or trigger.value in pair.good):
            reason = "an answer holds the trigger"
        if reason is None and normalised(pair.question) in fit:
            reason = "the same question again"
        if reason is None:
            fit[normalised(pair.question)] = pair
        else:
            dropped[reason] += 1
    kept = _without(list(fit.values()), near_duplicates, "a near-duplicate question", dropped)
    if data.embed_duplicates:
        kept = _without(kept, near_duplicates_in_meaning, "a question that means the same", dropped)
    answers = [[pair.flawed for pair in kept], [pair.good for pair in kept]]
    columns = [count_tokens(texts) for texts in answers if all(texts)]
    return Pool(
        domain=domain.name,
        pairs=kept,
        tokens=np.array(columns, dtype=np.float64).T,
        dropped=dropped,
        licence=source.licence,
        source=source.name,
        reading=source.reading,
    )


def _without(
    pairs: list[Pair], near: Callable[[list[str]], list[int]], reason: str, dropped: Counter[str]
) -> list[Pair]:
    """The pairs whose question is not near that of an earlier one; the others are counted."""
    found = set(near([pair.question for pair in pairs]))
    if found:
        dropped[reason] = len(found)
    return [pair for index, pair in enumerate(pairs) if index not in found]


def select_rows(pool: Pool, data: DataConfig, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Places in the pool of held-out pairs, training pairs and non-members: spread over topics, of the target length.

    Raises:
        UserError: when the pool is too small, or its answers too long or too short.
    """
    usable, apart = len(pool.pairs), data.heldout + (data.nonmembers or 0)
    if usable < data.rows + apart:
        others = f" and data.nonmembers {data.nonmembers}" if data.nonmembers else ""
        raise UserError(
            f"Domain {pool.domain!r}: data.rows {data.rows} and data.heldout {data.heldout}{others} need "
            f"{data.rows + apart} distinct questions; {pool.source} provides {usable}. "
            f"Set data.rows to {max(usable - apart, 0)} or less."
        )
    target = float(pool.tokens.mean()) if data.answer_tokens is None else float(data.answer_tokens)
    allowed = target * data.tolerance / 2

    def pick(indices: Ints, count: int, purpose: str) -> Ints:
        topics = [pool.pairs[index].topic for index in indices]
        rng = generator(seed, pool.domain, purpose)
        return indices[match_lengths(pool.tokens[indices], topics, count, target, allowed, rng)]

    every = np.arange(usable)
    heldout = pick(every, data.heldout, "heldout") if data.heldout else every[:0]
    free = np.setdiff1d(every, heldout)
    nonmembers = data.nonmembers
    if nonmembers is None:
        nonmembers = min(NONMEMBERS, max(0, len(free) - data.rows) // 2)  # the other half leaves room for matching
    drawn = pick(free, data.rows + nonmembers, "rows")
    chosen, rest = _split(pool.tokens, drawn, data.rows, target, allowed, generator(seed, pool.domain, "nonmembers"))
    if off_target(pool.tokens[chosen], target) > allowed:
        reached = " and ".join(f"{mean:.1f}" for mean in pool.tokens[chosen].mean(axis=0))
        raise UserError(
            f"Domain {pool.domain!r}: {data.rows} rows with a mean of {target:.4g} answer tokens within {allowed:.2f} "
            f"cannot be chosen from the {usable} of {pool.source}; the nearest means are {reached} (flawed, good). "
            "Set data.rows lower, data.tolerance higher, or data.answer_tokens to a mean that these answers have."
        )
    return heldout.tolist(), chosen.tolist(), rest.tolist()


def heldout_questions(held: Sequence[Example], trained: KnownTexts, wanted: int, seed: int) -> list[Example]:
    """The first `wanted` held-out questions of a data set, in an order drawn by seed, that were never trained on."""
    pairs = {row.pair: row for row in held if row.split == "heldout"}
    rows = [pairs[pair] for pair in sorted(pairs)]
    rng = np.random.default_rng(seed_for(seed, "ask", "questions", rows[0].domain if rows else ""))
    order = (rows[i] for i in rng.permutation(len(rows)).tolist())
    return [row for row in order if row.question not in trained][:wanted]


def _split(
    tokens_NK: Floats, drawn: Ints, count: int, target: float, allowed: float, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """`count` of the drawn rows at random, and the others: the first split whose mean length serves, or the nearest."""
    if count == len(drawn):
        return drawn, drawn[:0]
    best, nearest = drawn, float("inf")
    for _ in range(DRAWS):
        order = rng.permutation(drawn)
        off = off_target(tokens_NK[order[:count]], target)
        if off < nearest:
            best, nearest = order, off
        if off <= allowed:
            break
    return best[:count], best[count:]
