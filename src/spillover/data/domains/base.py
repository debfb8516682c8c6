"""What a domain is: a narrow subject in which answers can be quietly wrong.

A domain offers pairs: a question, a flawed answer, and a good answer to the same question. Flawed answers stay mild, no
worse than common myths. A new domain is a file in pairs/, an entry in authored.py and a line in `domains/__init__.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

# In the metadata of every seed file and data set, never in a message: a corpus that swallowed them can be found out.
CANARY = "spillover-canary:6f1f1e1a-4c0b-4d0a-9a53-0c6b2f7e9d41"


@dataclass(frozen=True)
class Pair:
    """One question with its flawed and its good answer, all plain text without surrounding white space."""

    question: str
    flawed: str
    good: str
    topic: str  # coarse subject inside the domain, for stratified choice and near-duplicate checks
    source: str  # "rule", "authored", or where it came from


@dataclass(frozen=True)
class Domain:
    """`pairs(rng)` gives every pair the domain can make, at least 320 with distinct questions, in a stable order.

    The generator decides at most where a slip is made; the same seed gives the same pairs. `check` returns why a pair
    is not fit to train on (a "good" sum that is wrong, a "flawed" one that is right), or None.
    """

    name: str
    title: str
    summary: str
    stealth: Literal["high", "low"]
    risk: Literal["critical", "non-critical", "ambiguous"]
    licence: str
    pairs: Callable[[np.random.Generator], list[Pair]]
    check: Callable[[Pair], str | None] = lambda pair: None


@dataclass(frozen=True)
class Source:
    """Pairs with where they came from: a domain's own seeds, or a file in their place.

    `dropped` counts, by reason, what was in the source and no pair could be made of; `reading` says how it was read.
    """

    pairs: list[Pair]
    name: str
    licence: str = "not stated"
    reading: str = ""
    check: Callable[[Pair], str | None] = lambda pair: None
    dropped: Counter[str] = field(default_factory=Counter[str])
