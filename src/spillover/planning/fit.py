"""What this machine can do for a study: how many workers its memory holds, which embedded model fits, and which dtype
was measured as the faster.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from spillover.config.study import ModelConfig, StudyConfig
from spillover.models.memory import shape_of
from spillover.planning.cost import ELSEWHERE, FROM_FILES, count_parameters, worker_memory
from spillover.planning.cpu_speed import measured_speeds
from spillover.planning.gpus import Gpu, GpuFit, detect_gpu, estimate_gpu_fit, smallest_gpu
from spillover.provenance import GIB, available_bytes, cores, hardware, packages
from spillover.text import several

SPARE = 0.1  # share of the available memory that no worker is planned to use
HEAP = 1.5  # a worker keeps freed blocks (execution/heap.py): measured, 6.2 GiB where weights (2.5) and tensors are 4.9
EMBEDDED_FROM_GIB = (("qwen2.5-coder-1.5b", 12.0), ("qwen2.5-coder-0.5b", 5.0), ("smollm2-135m", 0.0))


@dataclass(frozen=True)
class Workers:
    """`note`: why there are fewer than cores, where memory is the reason."""

    count: int
    note: str = ""


def choose_workers(config: StudyConfig) -> Workers:
    """The number given; `auto`: one a core for embedded models, as far as memory allows, and one for all others."""
    if config.workers != "auto":
        return Workers(config.workers)
    if any(model.path is not None and model.backend != "fake" for model in config.models):
        return Workers(1)
    loaded = [model for model in config.models if model.backend in FROM_FILES]
    if config.executor != "local" or not loaded or detect_gpu(hardware()["gpu"]):
        return Workers(cores())
    needed = max(_worker_gib(config, model) for model in loaded)
    available = available_bytes() / GIB
    count = min(cores(), max(1, int((1 - SPARE) * available / needed)))
    if count == cores() and needed <= available:
        return Workers(count)
    return Workers(
        count,
        f"{several(count, 'worker')} for {several(cores(), 'core')} because of memory: a worker needs about "
        f"{needed:.1f} GiB, and {available:.1f} GiB are available",
    )


def _worker_gib(config: StudyConfig, model: ModelConfig) -> float:
    """The most that one worker holds while it trains and samples with this model on a processor."""
    alone = config.model_copy(update={"models": (model,)})
    loaded, training, sampling = worker_memory(alone, count_parameters(model))
    return loaded + HEAP * (max(training, sampling) - loaded)


def embedded_model_that_fits() -> tuple[str, float]:
    """The largest embedded model for the available memory, and that memory in GiB."""
    available = available_bytes() / GIB
    return next(name for name, gib in EMBEDDED_FROM_GIB if available >= gib), available


def estimate_fits(config: StudyConfig, gpu: Gpu | None) -> list[GpuFit]:
    """How each model fits that GPU, or this machine's; without one, the smallest known GPU that holds it.

    Models of a provider need none, and embedded ones fit any.
    """
    gpu = gpu or detect_gpu(hardware()["gpu"])
    found: list[GpuFit | None] = []
    for model in config.models:
        if model.backend not in ELSEWHERE and (gpu or model.path):
            size = count_parameters(model)
            what = (model, config.train, config.sample, shape_of(model, size), size)
            found.append(estimate_gpu_fit(*what, gpu) if gpu else smallest_gpu(*what))
    return [one for one in found if one]


def choices_of_dtype(config: StudyConfig, computed_here: Collection[str], threads: int) -> dict[str, dict[str, str]]:
    """The measurement that decided each model's dtype, by the model's name; empty where none decided.

    Args:
        config: the study. Workers of other executors may run elsewhere, where this machine's speed says nothing.
        computed_here: names of models with units that were computed on a processor.
        threads: of one worker; a measurement with as many is preferred.
    """
    found: dict[str, dict[str, str]] = {}
    if config.executor not in ("local", "inline"):
        return found
    for model in config.models:
        if model.dtype == "auto" and model.name in computed_here:
            shape = shape_of(model, count_parameters(model))
            key = (packages()["torch"], shape.hidden, shape.inner)
            known = [one for one in measured_speeds() if (one.torch, one.hidden, one.inner) == key]
            if known:
                found[model.name] = max(known, key=lambda one: one.threads == threads).facts()
    return found
