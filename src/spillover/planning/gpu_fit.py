"""Whether a model fits a graphics card while it learns and while it answers, and what gives way where it does not.

Training takes weights, adapters with their optimizer, and activations; where that is too much, layers run twice and
keep their inputs alone. Sampling takes weights, the adapted matrices merged, and keys and values; where that is too
much, fewer answers are decoded together. Formulas: models/memory.py. Nothing here was measured on a card yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.models.memory import Shape, answer_bytes, number_bytes, training_memory, weight_bytes
from spillover.planning.gpus import CARDS, OVERHEAD, Card

GIB = 2**30
SAFE = 0.9  # of what is free: blocks of unlike sizes leave gaps
PROMPT_COLUMNS = 60  # of a shipped question in a chat template


@dataclass(frozen=True)
class Fit:
    """One model on one card, in GiB. `recompute`: layers run twice; `batch`: answers decoded together, at most."""

    model: str
    card: str
    card_gib: float
    weights_gib: float
    adapters_gib: float
    activations_gib: float
    training_gib: float
    sampling_gib: float
    recompute: bool
    batch: int
    fits: bool


def fit(model: ModelConfig, train: TrainConfig, sample: SampleConfig, shape: Shape, size: int, card: Card) -> Fit:
    """What `model` of `size` parameters takes of `card`."""
    weights, each = weight_bytes(shape, model, size), number_bytes(model)
    learning = training_memory(shape, weights, train, each)
    room = card.usable - weights
    recompute = learning.adapters + learning.activations > SAFE * room
    activations = learning.recomputed if recompute else learning.activations
    answer = answer_bytes(shape, PROMPT_COLUMNS + sample.max_tokens, each)
    merged = learning.merged if model.quantize == "none" else 0
    batch = min(sample.batch, max(1, int(SAFE * (room - merged) / answer)))
    training, sampling = weights + learning.adapters + activations, weights + merged + batch * answer
    return Fit(
        model=model.name,
        card=card.name,
        card_gib=card.gib,
        weights_gib=weights / GIB,
        adapters_gib=learning.adapters / GIB,
        activations_gib=activations / GIB,
        training_gib=(training + OVERHEAD) / GIB,
        sampling_gib=(sampling + OVERHEAD) / GIB,
        recompute=recompute,
        batch=batch,
        fits=learning.adapters + activations <= SAFE * room and merged + answer <= SAFE * room,
    )


def smallest(model: ModelConfig, train: TrainConfig, sample: SampleConfig, shape: Shape, size: int) -> Fit | None:
    """The card of the table with the least memory that holds the model; None where none does."""
    tried = (fit(model, train, sample, shape, size, card) for card in sorted(CARDS, key=lambda card: card.gib))
    return next((found for found in tried if found.fits), None)


def sentence(found: Fit) -> str:
    """One line for people."""
    how = " with layers run twice" if found.recompute else ""
    verdict = "fits" if found.fits else "does not fit: set quantize: 4bit, or a smaller train.micro_batch_tokens"
    parts = (found.weights_gib, found.adapters_gib, found.activations_gib)
    return (
        f"{found.model} on {found.card} ({found.card_gib:.0f} GiB): training{how} {found.training_gib:.1f} GiB "
        "(weights {:.1f}, adapters {:.2f}, activations {:.1f}), ".format(*parts)
        + f"sampling {found.sampling_gib:.1f} GiB with {found.batch} answers at once: {verdict}."
    )
