"""compression: bytes of the texts together over their zlib bytes (level 9); the higher, the more they repeat each other
(Shaib et al. 2024). Negated, so that here too higher = more diverse. Deflate looks 32 KiB back, so that repetition
further apart does not show.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence


def score(texts: Sequence[str]) -> float:
    """The negative compression ratio of the texts joined by line feeds; NaN for no text."""
    joined = "\n".join(texts).encode("utf-8", "replace")
    return -len(joined) / len(zlib.compress(joined, 9)) if joined else float("nan")
