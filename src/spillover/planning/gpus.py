"""GPUs by the name that the driver reports, and whether a model fits one while it trains and while it samples.

Memory is what drivers report, less than the label says. Peaks are for dense bfloat16 with float32 accumulation, from
NVIDIA's data sheets, without structured sparsity (half of what a sheet prints with it): H100 (989 SXM, 756 PCIe, 835
NVL), H200 (989 SXM, 835 NVL), A100 (312), L40S (362), L4 (121), A10 (125), RTX A6000 (155), RTX 6000 Ada (364), DGX
B200 (36,000 sparse for eight); and from its white papers: Ada (RTX 4090: 165), GA102 (RTX 3090: 71).

Training needs the weights, the adapters with their optimizer state, and activations; where that is too much, layers
are recomputed in the backward pass and keep only their inputs. Sampling needs the weights, the merged adapted matrices,
and keys and values; where that is too much, fewer completions are decoded together. Formulas: models/memory.py. None of
these estimates has been checked on a GPU yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.errors import UserError
from spillover.models.memory import Shape, answer_bytes, number_bytes, training_memory, weight_bytes
from spillover.provenance import GIB

OVERHEAD = 1.2 * GIB  # driver context, library workspaces and gaps between blocks; assumed, not measured
SAFE = 0.9  # usable share of free memory: blocks of unequal sizes leave gaps
PROMPT_COLUMNS = 60  # tokens of a shipped question in a chat template


@dataclass(frozen=True)
class Gpu:
    """`gib`: memory as the driver reports it; `teraflops` is None where no data sheet is known."""

    name: str
    gib: float
    teraflops: float | None

    @property
    def usable(self) -> float:
        """Bytes available to a model."""
        return self.gib * GIB - OVERHEAD


GPUS = (
    Gpu("RTX 3090", 24.0, 71),
    Gpu("RTX 4090", 24.0, 165),
    Gpu("RTX 6000 Ada", 48.0, 364),
    Gpu("RTX A6000", 48.0, 155),
    Gpu("A100 40GB", 40.0, 312),
    Gpu("A100 80GB", 80.0, 312),
    Gpu("A10", 22.5, 125),
    Gpu("L40S", 45.0, 362),
    Gpu("L4", 22.5, 121),
    Gpu("H100 PCIe", 79.6, 756),
    Gpu("H100 NVL", 93.6, 835),
    Gpu("H100", 79.6, 989),
    Gpu("H200 NVL", 140.4, 835),
    Gpu("H200", 140.4, 989),
    Gpu("B200", 178.0, 2250),
)
"""A driver's name means the first entry whose words it contains."""


def match_driver_name(name: str) -> Gpu | None:
    """The table's entry for a driver's name, such as "NVIDIA H100 80GB HBM3"."""
    words = set(re.findall(r"\w+", name.lower()))
    return next((gpu for gpu in GPUS if set(gpu.name.lower().split()) <= words), None)


def lookup_gpu(name: str) -> Gpu:
    """The table's entry for a name that a user gives.

    Raises:
        UserError: when there is no such entry.
    """
    found = match_driver_name(name)
    if found is None:
        raise UserError(f"Unknown GPU {name!r}. Known: {', '.join(gpu.name for gpu in GPUS)}")
    return found


def detect_gpu(line: str) -> Gpu | None:
    """The first GPU of a hardware line, "name, 81559 MiB, driver; ...", with its own memory; None for "none"."""
    parts = line.partition(";")[0].split(", ")
    if len(parts) < 2:
        return None
    found = match_driver_name(parts[0])
    return Gpu(parts[0], int(parts[1].split()[0]) / 1024, found.teraflops if found else None)


@dataclass(frozen=True)
class GpuFit:
    """One model on one GPU. `recompute`: layers run twice; `batch`: most completions that are decoded together."""

    model: str
    gpu: str
    gpu_gib: float
    weights_gib: float
    adapters_gib: float
    activations_gib: float
    training_gib: float
    sampling_gib: float
    recompute: bool
    batch: int
    fits: bool

    def describe(self) -> str:
        """One line for people."""
        how = " with layers run twice" if self.recompute else ""
        result = "fits" if self.fits else "does not fit: set quantize: 4bit, or a smaller train.micro_batch_tokens"
        return (
            f"{self.model} on {self.gpu} ({self.gpu_gib:.0f} GiB): training{how} {self.training_gib:.1f} GiB "
            f"(weights {self.weights_gib:.1f}, adapters {self.adapters_gib:.2f}, "
            f"activations {self.activations_gib:.1f}), sampling {self.sampling_gib:.1f} GiB "
            f"with {self.batch} completions at once: {result}."
        )


def estimate_gpu_fit(
    model: ModelConfig, train: TrainConfig, sample: SampleConfig, shape: Shape, size: int, gpu: Gpu
) -> GpuFit:
    """Memory of `gpu` that `model`, of `size` parameters, needs."""
    weights, each = weight_bytes(shape, model, size), number_bytes(model)
    learning = training_memory(shape, weights, train, each)
    room = gpu.usable - weights
    recompute = learning.adapters + learning.activations > SAFE * room
    activations = learning.recomputed if recompute else learning.activations
    answer = answer_bytes(shape, PROMPT_COLUMNS + sample.max_tokens, each)
    merged = learning.merged if model.quantize == "none" else 0
    batch = min(sample.batch, max(1, int(SAFE * (room - merged) / answer)))
    training, sampling = weights + learning.adapters + activations, weights + merged + batch * answer
    return GpuFit(
        model=model.name,
        gpu=gpu.name,
        gpu_gib=gpu.gib,
        weights_gib=weights / GIB,
        adapters_gib=learning.adapters / GIB,
        activations_gib=activations / GIB,
        training_gib=(training + OVERHEAD) / GIB,
        sampling_gib=(sampling + OVERHEAD) / GIB,
        recompute=recompute,
        batch=batch,
        fits=learning.adapters + activations <= SAFE * room and merged + answer <= SAFE * room,
    )


def smallest_gpu(
    model: ModelConfig, train: TrainConfig, sample: SampleConfig, shape: Shape, size: int
) -> GpuFit | None:
    """The fit on the GPU with the least memory that holds the model; None where no known GPU does."""
    tried = (estimate_gpu_fit(model, train, sample, shape, size, gpu) for gpu in sorted(GPUS, key=lambda gpu: gpu.gib))
    return next((found for found in tried if found.fits), None)
