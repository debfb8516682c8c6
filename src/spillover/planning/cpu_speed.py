"""Measured speed of this processor's matrix products in float32 and bfloat16, kept in the cache folder.

No processor flag predicts which dtype is faster: with AVX-512's bfloat16 and no AMX, one machine multiplies bfloat16
2.2 times as fast as float32 and another more slowly. So models/hf/device.py times a few products of a model's own shape
once; they are kept by processor, torch version, threads and shape. This module only reads them and imports no torch.
"""

from __future__ import annotations

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
from spillover.store.files import lock, replace_file

FEW, MANY = 64, 512  # rows of a product: in a decoding step, in a pass of training or reading
_DECODING = 0.25  # approximate share of a study's arithmetic that has few rows


@dataclass(frozen=True)
class CpuSpeed:
    """GFLOP/s of x W' with W (inner, hidden), for x of `FEW` and of `MANY` rows, in both dtypes.

    bfloat16 is 0 where its first product took more than twice as long as float32's and was not timed further.
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
    def faster_dtype(self) -> str:
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

    def facts(self) -> dict[str, str]:
        """The measurement and the dtype that it chooses, as a manifest keeps them."""
        return {**{name: str(value) for name, value in asdict(self).items()}, "chosen": self.faster_dtype}


def cache_dir() -> Path:
    """Folder for files that can be recreated: $SPILLOVER_CACHE, else $XDG_CACHE_HOME/spillover, else ~/.cache."""
    if own := os.environ.get("SPILLOVER_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spillover"


def measured_speeds() -> list[CpuSpeed]:
    """All measurements of this processor."""
    return [speed for speed in _read() if speed.cpu == cpu_model()]


def lookup_speed(torch: str, threads: int, hidden: int, inner: int) -> CpuSpeed | None:
    """The measurement of this processor for these shapes."""
    key = (torch, threads, hidden, inner)
    return next((s for s in measured_speeds() if (s.torch, s.threads, s.hidden, s.inner) == key), None)


@contextmanager
def recording() -> Generator[list[CpuSpeed]]:
    """Lock the cache; measurements appended inside the block are saved."""
    with lock(cache_dir() / ".speeds.lock"):
        before = _read()
        measured = list(before)
        yield measured
        if measured != before:
            replace_file(_file(), json.dumps([asdict(one) for one in measured], indent=1) + "\n")


def measure_in_subprocess(hidden: int, inner: int, threads: int) -> CpuSpeed:
    """Measure in a separate process, so that the caller need not load torch.

    Raises:
        MachineError: when that process fails.
    """
    command = [sys.executable, "-m", "spillover.models.hf.device", str(hidden), str(inner), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise MachineError(f"The speed of this processor could not be measured: {lines[-1]}")
    return CpuSpeed(**json.loads(done.stdout.splitlines()[-1]))


def _file() -> Path:
    return cache_dir() / "speeds.json"


def _read() -> list[CpuSpeed]:
    try:
        content: Any = json.loads(_file().read_text(encoding="utf-8"))
        return [CpuSpeed(**one) for one in content]
    except (OSError, ValueError, TypeError):
        return []
