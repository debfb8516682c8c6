"""What this machine's processor and GPU can do: the faster dtype, what fits in memory, base models in four bits.

No processor flag predicts which dtype is faster, so products of a model's shape are timed in float32 and bfloat16, laid
out as they are used; at most about 0.3 s. python -m spillover.models.hf.device HIDDEN INNER THREADS prints one
measurement as JSON. No limit of memory is applied on a CPU.

Four bits are NF4 (Dettmers et al., arXiv 2305.14314) through bitsandbytes: the layers' matrices take 4.127 bits a
weight and are expanded to the compute dtype for each product, so a step is not faster, but a 7B model fits a small GPU.
Adapters stay separate: merged, their digits would be rounded away.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

from spillover.config.study import TrainConfig
from spillover.errors import MissingExtra
from spillover.execution.heap import give_back_memory
from spillover.models.memory import SIZES, Shape, answer_bytes, shape_in, training_memory
from spillover.planning.cpu_speed import FEW, MANY, CpuSpeed, lookup_speed, recording
from spillover.planning.gpus import SAFE
from spillover.provenance import cpu_model

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

_ROUNDS = 3
_HOPELESS = 2.0  # times as long as float32: not timed further


def free_bytes(device: torch.device) -> float:
    """What this process could still allocate, including what torch holds in reserve."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def needs_recompute(model: PreTrainedModel, train: TrainConfig, free: float) -> bool:
    """Whether a training step fits next to the loaded weights only if layers run twice."""
    if math.isinf(free):
        return False
    needed = training_memory(loaded_shape(model), 0.0, train, model.dtype.itemsize)
    return needed.adapters + needed.activations > SAFE * free


def max_decode_rows(model: PreTrainedModel, columns: int, wanted: int, free: float) -> int:
    """How many of the `wanted` completions can be decoded together, at least one."""
    if math.isinf(free):
        return wanted
    fitting = int(SAFE * free / answer_bytes(loaded_shape(model), columns, model.dtype.itemsize))
    return min(wanted, max(1, fitting))


def loaded_shape(model: PreTrainedModel) -> Shape:
    """The shape of a loaded model, whatever its family calls the sizes."""
    config = model.config.get_text_config()
    sizes = {name: getattr(config, name, None) for name in SIZES}
    sizes["intermediate_size"] = sizes["intermediate_size"] or 4 * config.hidden_size
    return shape_in(sizes)


def release_memory() -> None:
    """Return unused memory to the system and to the GPU's driver, so that another engine can allocate it."""
    gc.collect()
    give_back_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def four_bit(dtype: torch.dtype) -> BitsAndBytesConfig:
    """How to load a base in four bits, computing in `dtype`.

    Raises:
        MissingExtra: without bitsandbytes.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingExtra.of("bitsandbytes", "quantized")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_plain(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking weights for the processor: that form has no gradient."""
    for module in model.modules():
        if "support_avx512bf16_for_cpu" in vars(module):
            vars(module)["support_avx512bf16_for_cpu"] = False


def _matters(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


# PEFT imports bitsandbytes, where it is installed, in every worker that trains; on a processor with AVX-512's bfloat16
# that warns of a missing package `kernels`, whose product `keep_plain` rules out.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_matters)


def measured(hidden: int, inner: int) -> CpuSpeed:
    """The speed of this processor with the present number of threads, from the cache or by measuring now."""
    threads = torch.get_num_threads()
    with recording() as known:
        found = lookup_speed(torch.__version__, threads, hidden, inner)
        if found is None:
            found = _measure(hidden, inner, threads)
            known.append(found)
    return found


@torch.inference_mode()
def _measure(hidden: int, inner: int, threads: int) -> CpuSpeed:
    full = torch.randn(inner, hidden).t().contiguous().t()  # float32 weights lie by columns, see hf/model.py
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
