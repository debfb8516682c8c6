"""What steering will cost before anything runs, as if no line ended before its last coefficient."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.config import Operation, SteerConfig, StudyConfig
from spillover.estimate import (
    BACKEND_THROUGHPUT,
    GIB,
    LIBRARIES_GIB,
    PROMPT_TOKENS,
    StagePlan,
    Throughput,
    answer_length,
)

USUAL_LAYERS = 2  # where steer.layers is null


def steer_plan(
    config: StudyConfig,
    wanted: SteerConfig,
    models: tuple[int, int],
    directions: int,
    questions: int,
    workers: int,
    size: int,
    speed: Throughput,
    dollars: float = 0.0,
) -> StagePlan:
    """Of one base model.

    Args:
        config: the study.
        wanted: what is asked for.
        models: how many untouched and how many fine-tuned models are steered.
        directions: of domains; random controls come on top.
        questions: prompts.
        workers: how many run at once.
        size: parameters of the model.
        speed: of one worker.
        dollars: what judging one answer costs.
    """
    speed = BACKEND_THROUGHPUT.get(config.models[0].backend, speed)
    per_model = (_interventions(wanted, wanted.base, directions), _interventions(wanted, wanted.tuned, directions))
    answers = questions * wanted.n * sum(count * each for count, each in zip(models, per_model, strict=True))
    length = min(wanted.max_tokens, answer_length(config))
    seconds = answers * length / speed.sample + answers * (PROMPT_TOKENS + length) / speed.judge
    memory = workers * (LIBRARIES_GIB + 2 * size / GIB)
    return StagePlan("steer", sum(models), answers, answers * length, seconds / workers / 60, memory, answers * dollars)


def _interventions(wanted: SteerConfig, operations: Sequence[Operation], directions: int) -> int:
    """How many one model has, the untouched one among them."""
    swept = len(wanted.layers or range(USUAL_LAYERS)) * len(wanted.coefficients)
    return 1 + sum((directions + wanted.controls) * (1 if one == "ablate" else swept) for one in operations)
