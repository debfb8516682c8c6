"""What every trainer does in the same order: which examples make a step, and how fast it learns in it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from spillover.config.study import TrainConfig
from spillover.provenance import seed_for


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of step 0, 1, ..., steps - 1: a linear rise over the warm-up, then the schedule towards 0 at `steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return config.learning_rate * factor[config.schedule]


def batches(count: int, config: TrainConfig, seed: int) -> Iterator[list[int]]:
    """Indices of the examples of every step: a fresh order each epoch, the last batch of an epoch maybe smaller."""
    for epoch in range(config.epochs):
        order = np.random.default_rng(seed_for(seed, "order", epoch)).permutation(count).tolist()
        yield from (order[at : at + config.batch_size] for at in range(0, count, config.batch_size))
