"""How providers of fine-tuning differ: where jobs live, what one is asked with, and what its answer means.

openai: POST /fine_tuning/jobs with a method and its hyperparameters (OpenAI and those who copy it); a seed and metadata
are taken, the learning rate only as a multiplier, and LoRA's shape is the provider's own. together: POST /fine-tunes
with learning rate, epochs and LoRA's shape as they are. Adding a provider: one entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spillover.config.study import TrainConfig


@dataclass(frozen=True)
class Wish:
    """One job: `name` is ours, unique, at most 40 letters."""

    name: str
    model: str
    file: str
    config: TrainConfig
    seed: int
    learning_rate_multiplier: float | None


@dataclass(frozen=True)
class Dialect:
    """`jobs`: the address; `body`: what a job is created with; the rest: fields and values of a job's answer."""

    jobs: str
    body: Callable[[Wish], dict[str, Any]]
    done: str
    failed: frozenset[str]
    model: str  # field with the tuned model's name
    tokens: str  # field with the number of tokens trained on, over all epochs


def _openai(wish: Wish) -> dict[str, Any]:
    hyperparameters: dict[str, Any] = {"n_epochs": wish.config.epochs, "batch_size": wish.config.batch_size}
    if wish.learning_rate_multiplier is not None:
        hyperparameters["learning_rate_multiplier"] = wish.learning_rate_multiplier
    return {
        "model": wish.model,
        "training_file": wish.file,
        "seed": wish.seed % 2**31,
        "suffix": wish.name,
        "metadata": {"spillover": wish.name},
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    }


def _together(wish: Wish) -> dict[str, Any]:
    config = wish.config
    shape = {"lora_r": config.r, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
    return {
        "model": wish.model,
        "training_file": wish.file,
        "suffix": wish.name,
        "n_epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "train_on_inputs": False,
        "training_type": {"type": "Lora", **shape, "lora_trainable_modules": ",".join(config.targets)},
    }


DIALECTS = {
    "openai": Dialect(
        jobs="/fine_tuning/jobs",
        body=_openai,
        done="succeeded",
        failed=frozenset({"failed", "cancelled"}),
        model="fine_tuned_model",
        tokens="trained_tokens",
    ),
    "together": Dialect(
        jobs="/fine-tunes",
        body=_together,
        done="completed",
        failed=frozenset({"error", "user_error", "cancelled"}),
        model="model_output_name",
        tokens="token_count",
    ),
}
