"""Times products of a model's shape in float32 and bfloat16, laid out as they are used; at most about 0.3 s.

python -m spillover.models.hf.speed HIDDEN INNER THREADS    prints one measurement as JSON
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

import torch
from torch import Tensor
from torch.nn.functional import linear

from spillover.planning import cpu_speed as speeds
from spillover.planning.cpu_speed import FEW, MANY, CpuSpeed
from spillover.provenance import cpu_model

_ROUNDS = 3
_HOPELESS = 2.0  # times as long as float32: not timed further


def measured(hidden: int, inner: int) -> CpuSpeed:
    """The speed of this processor with the present number of threads, from the cache or by measuring now."""
    threads = torch.get_num_threads()
    with speeds.recording() as known:
        found = speeds.lookup_speed(torch.__version__, threads, hidden, inner)
        if found is None:
            found = _measure(hidden, inner, threads)
            known.append(found)
    return found


@torch.inference_mode()
def _measure(hidden: int, inner: int, threads: int) -> CpuSpeed:
    full = torch.randn(inner, hidden).t().contiguous().t()  # float32 weights lie by columns, see hf_model
    half = full.to(torch.bfloat16).contiguous()
    found: dict[str, float] = {}
    for name, rows in (("few", FEW), ("many", MANY)):
        x = torch.randn(rows, hidden)
        y = x.to(torch.bfloat16)
        linear(x, full)
        best, other = _seconds(x, full), _seconds(y, half)
        if other < _HOPELESS * best:
            linear(y, half)
            for _ in range(_ROUNDS):  # in turns, so that a busy moment meets both
                best, other = min(best, _seconds(x, full)), min(other, _seconds(y, half))
        gflop = 2 * rows * hidden * inner / 1e9
        found[f"float32_{name}"] = round(gflop / best, 1)
        found[f"bfloat16_{name}"] = round(gflop / other, 1) if other < _HOPELESS * best else 0.0
    return CpuSpeed(
        cpu=cpu_model(), torch=str(torch.__version__), threads=threads, hidden=hidden, inner=inner, **found
    )  # fmt: skip


def _seconds(x: Tensor, weight: Tensor) -> float:
    started = time.perf_counter()
    linear(x, weight)
    return time.perf_counter() - started


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    print(json.dumps(asdict(measured(int(sys.argv[1]), int(sys.argv[2])))))
