"""Random streams by name: each purpose has its own, so that adding a domain or a step shifts no other."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """The random stream that belongs to these names, whatever other streams there are."""
    key = int.from_bytes(blake2b("/".join(names).encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(np.random.SeedSequence([seed, key]))
