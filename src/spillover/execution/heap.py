"""The C heap of this process: whether memory that was freed stays with it. Nothing happens where the C library is
not glibc.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # in glibc's malloc.h


def keep_memory() -> None:
    """Let freed memory stay with the process: large blocks fetched again are a tenth of a training step on a CPU."""
    setting = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc
    if setting is not None:
        for name, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
            setting(name, value)


def give_back_memory() -> None:
    """Return freed memory to the system: a worker that has trained keeps twice what it needs for the next call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
