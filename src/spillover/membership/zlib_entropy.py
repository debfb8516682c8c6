"""zlib: mean l_t over the bytes of the compressed answer (Carlini et al. 2021): surprise, relative to how much there is
to be surprised by. Header and checksum take 8 of those bytes, which distorts short answers; the length-controlled form
below is the answer's whole log-probability a compressed byte without them.
"""

import zlib

from spillover.membership.base import MISSING, Views

OVERHEAD = 8  # bytes that zlib adds to its stream, whatever the text
LEVEL = 6  # zlib's own default, as the field uses it


def compressed_bytes(text: str, level: int = LEVEL) -> int:
    """Length of the UTF-8 text as a zlib stream."""
    return len(zlib.compress(text.encode("utf-8", "replace"), level))


def score(views: Views) -> float:
    """Mean l_t / compressed bytes."""
    return views.target.mean_logprob / compressed_bytes(views.text)


def length_controlled(views: Views) -> float:
    """Sum of l_t / (compressed bytes - 8)."""
    if not len(views.target) or not views.text:
        return MISSING
    return float(views.target.logprobs_T.sum()) / max(1, compressed_bytes(views.text) - OVERHEAD)
