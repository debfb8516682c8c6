"""How fast this processor multiplies matrices, as measured, in float32 and in bfloat16, kept in the cache folder.

No processor flag says which dtype is faster: with AVX-512's bfloat16 and no AMX one machine multiplies bfloat16 2.2
times as fast as float32, another slower. So a few products of a model's own shape are timed once (hf_speed) and kept by
processor, torch version, threads and shape. This module reads what was measured, and knows neither torch nor models.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spillover.errors import MachineError
from spillover.provenance import cpu_model

FEW, MANY = 64, 512  # rows of a product: of a step that decodes, of a pass that trains or reads
_DECODING = 0.25  # share of a study's arithmetic that has few rows, about


@dataclass(frozen=True)
class Measured:
    """GFLOP/s of x W' with W (inner, hidden), for x of `FEW` and of `MANY` rows, in both dtypes; and the faster dtype.

    `bfloat16` is 0 where its first product took more than twice as long as that of float32 and was not timed further.
    """

    cpu: str
    torch: str
    threads: int
    hidden: int
    inner: int
    float32_few: float
    float32_many: float
    bfloat16_few: float
    bfloat16_many: float

    @property
    def chosen(self) -> str:
        """The dtype in which a study's mix of products takes less time."""
        if not self.bfloat16_few or not self.bfloat16_many:
            return "float32"
        half = _DECODING / self.bfloat16_few + (1 - _DECODING) / self.bfloat16_many
        full = _DECODING / self.float32_few + (1 - _DECODING) / self.float32_many
        return "bfloat16" if half < full else "float32"

    def gflops(self, dtype: str) -> tuple[float, float]:
        """GFLOP/s for few and for many rows in that dtype."""
        if dtype == "bfloat16" and self.bfloat16_many:
            return self.bfloat16_few, self.bfloat16_many
        return self.float32_few, self.float32_many


def cache_dir() -> Path:
    """The folder that holds what can be made again: $SPILLOVER_CACHE, else $XDG_CACHE_HOME/spillover, else ~/.cache."""
    if own := os.environ.get("SPILLOVER_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spillover"


def known() -> list[Measured]:
    """Everything that was measured on this processor."""
    return [one for one in _read() if one.cpu == cpu_model()]


def find(torch: str, threads: int, hidden: int, inner: int) -> Measured | None:
    """What was measured for these shapes on this processor."""
    wanted = (torch, threads, hidden, inner)
    return next((one for one in known() if (one.torch, one.threads, one.hidden, one.inner) == wanted), None)


@contextmanager
def recording() -> Generator[list[Measured]]:
    """Hold the cache alone; what is appended inside the block is kept."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / ".speeds.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = _read()
        measured = list(before)
        yield measured
        if measured != before:
            scratch = _file().with_suffix(".new")
            scratch.write_text(json.dumps([asdict(one) for one in measured], indent=1) + "\n", encoding="utf-8")
            scratch.replace(_file())


def measure_elsewhere(hidden: int, inner: int, threads: int) -> Measured:
    """Measure in a process of its own, so that the caller need not load torch.

    Raises:
        MachineError: when that process fails.
    """
    command = [sys.executable, "-m", "spillover.models.hf.speed", str(hidden), str(inner), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise MachineError(f"The speed of this processor could not be measured: {lines[-1]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _file() -> Path:
    return cache_dir() / "speeds.json"


def _read() -> list[Measured]:
    try:
        content: Any = json.loads(_file().read_text(encoding="utf-8"))
        return [Measured(**one) for one in content]
    except (OSError, ValueError, TypeError):
        return []
