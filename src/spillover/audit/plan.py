"""What fits into a budget: expected minutes of the rungs, from the same stated speeds as `spillover plan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from spillover.audit.verdict import Facts
from spillover.config.study import ModelConfig
from spillover.planning.cost import PROMPT_TOKENS, count_parameters, throughput
from spillover.planning.gpus import detect_gpu
from spillover.provenance import cores, hardware

T = TypeVar("T")
TOKENS_A_WORD = 1.4
FORWARD = 3  # a forward pass is a third of the work of learning from the same tokens


def surprise_minutes(model: ModelConfig, rows: int, features: Facts) -> float:
    """One pass of the untouched model over the sampled rows."""
    size = count_parameters(model)
    speed = throughput(model, size, detect_gpu(hardware()["gpu"]))
    workers = cores() if small(model) else 1
    words = float(features.get("answer_words_mean") or 0)
    return rows * (PROMPT_TOKENS + TOKENS_A_WORD * words) / (FORWARD * speed.train) / workers / 60


def small(model: ModelConfig) -> bool:
    """Whether one single-thread process a core is the quickest way to run the model, as a study does."""
    return model.path is None or model.backend == "fake"


def fitting(sizes: Sequence[T], minutes: Callable[[T], float], left: float | None) -> tuple[T | None, float]:
    """The first size that is expected to fit into the minutes left, and what it takes; else None and the least."""
    least = float("inf")
    for size in sizes:
        expected = minutes(size)
        if left is None or expected <= left:
            return size, expected
        least = min(least, expected)
    return None, least
