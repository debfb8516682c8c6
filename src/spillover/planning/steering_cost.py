"""What steering will cost before anything runs, as if no line ended before its last coefficient."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.config.study import Operation, SteerConfig, StudyConfig
from spillover.planning.cost import (
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
    questions: tuple[int, int],
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
        questions: general prompts, and held-out ones of all domains.
        workers: how many run at once.
        size: parameters of the model.
        speed: of one worker.
        dollars: what judging one answer costs.
    """
    speed = BACKEND_THROUGHPUT.get(config.models[0].backend, speed)
    per_model = (_interventions(wanted, wanted.base, directions), _interventions(wanted, wanted.tuned, directions))
    cells = answers = tokens = 0
    if "general" in wanted.asked:
        cells = sum(models)
        answers = questions[0] * wanted.n * sum(count * each for count, each in zip(models, per_model, strict=True))
        tokens = answers * answer_length(config, wanted.max_tokens)
    if "heldout" in wanted.asked and config.transfer:
        cells = max(cells, models[0])
        more = questions[1] * config.transfer.n * models[0] * (1 + directions + wanted.controls)
        answers, tokens = answers + more, tokens + more * answer_length(config, config.transfer.max_tokens)
    seconds = tokens / speed.sample + (answers * PROMPT_TOKENS + tokens) / speed.judge
    memory = workers * (LIBRARIES_GIB + 2 * size / GIB)
    return StagePlan("steer", cells, answers, tokens, seconds / workers / 60, memory, answers * dollars)


def _interventions(wanted: SteerConfig, operations: Sequence[Operation], directions: int) -> int:
    """How many one model has, the untouched one among them."""
    swept = len(wanted.layers or range(USUAL_LAYERS)) * len(wanted.coefficients)
    return 1 + sum((directions + wanted.controls) * (1 if one == "ablate" else swept) for one in operations)
