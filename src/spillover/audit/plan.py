"""What fits into a budget: expected cost of the rungs at this machine's measured speed, as in `spillover plan`.

The trial fine-tune is planned as rounds of growing size. A round reuses what the one before it made: completions of the
base model always, those of the adapters and the adapters themselves where both train on the same number of rows. The
last planned round is the largest that fits; a round before it has half of the next one's completions at most, or half
of its cost where it trains on fewer rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spillover.audit.policy import ProbeSize
from spillover.audit.verdict import Facts
from spillover.config.study import ModelConfig, StudyConfig
from spillover.planning.cost import PROMPT_TOKENS, count_parameters, throughput
from spillover.planning.gpus import detect_gpu
from spillover.provenance import cores, hardware
from spillover.study.study import Study

TOKENS_A_WORD = 1.4
FORWARD = 3  # a forward pass is a third of the work of learning from the same tokens


def surprise_minutes(model: ModelConfig, rows: int, features: Facts) -> float:
    """One pass of the base model over the sampled rows."""
    size = count_parameters(model)
    speed = throughput(model, size, detect_gpu(hardware()["gpu"]))
    workers = cores() if is_small(model) else 1
    words = float(features.get("answer_words_mean") or 0)
    return rows * (PROMPT_TOKENS + TOKENS_A_WORD * words) / (FORWARD * speed.train) / workers / 60


def is_small(model: ModelConfig) -> bool:
    """Whether one single-thread process a core is the quickest way to run the model, as a study does."""
    return model.path is None or model.backend == "fake"


@dataclass(frozen=True)
class Cost:
    minutes: float
    dollars: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.minutes + other.minutes, self.dollars + other.dollars)

    def __mul__(self, factor: float) -> Cost:
        return Cost(self.minutes * factor, self.dollars * factor)


@dataclass(frozen=True)
class TrialCost:
    """A trial of one size from the start: training both models; sampling and judging both and the base model."""

    training: Cost
    asking: Cost

    def after(self, before: ProbeSize | None, size: ProbeSize) -> Cost:
        """The same as a round after `before`, which has at most as many rows and completions."""
        if before is None:
            return self.training + self.asking
        new = 1 - before.answers / size.answers
        if before.rows == size.rows:
            return self.asking * new
        return self.training + self.asking * ((2 + new) / 3)


def trial_cost(config: StudyConfig) -> TrialCost:
    """What a trial fine-tune is expected to cost."""
    stages = [
        (stage.stage in ("sample", "judge"), Cost(stage.minutes, stage.dollars)) for stage in Study(config).plan()
    ]
    return TrialCost(*(sum((cost for asks, cost in stages if asks is which), Cost(0.0)) for which in (False, True)))


def plan_rounds(
    sizes: Sequence[ProbeSize],
    looks: int,
    cost: Callable[[ProbeSize | None, ProbeSize], Cost],
    minutes_left: float | None,
    before: ProbeSize | None = None,
) -> list[ProbeSize]:
    """At most `looks` rounds that grow in rows or completions and together fit into the minutes left.

    Args:
        sizes: to choose from.
        looks: the largest number of rounds.
        cost: of a round after another, None for the first.
        minutes_left: of the budget; None without one.
        before: the round that was finished last.
    """

    def fits(rounds: Sequence[ProbeSize]) -> bool:
        spent = sum(cost(one, other).minutes for one, other in zip([before, *rounds], rounds, strict=False))
        return minutes_left is None or spent <= minutes_left

    def halves(size: ProbeSize, following: ProbeSize) -> bool:
        if size.rows == following.rows:
            return 2 * size.answers <= following.answers
        return grows(size, following) and 2 * cost(None, size).minutes <= cost(None, following).minutes

    larger = [size for size in sizes if before is None or grows(before, size)]
    largest_first = sorted(larger, key=lambda size: (size.rows, size.answers), reverse=True)
    rounds = next(([size] for size in largest_first if looks and fits([size])), [])
    for size in largest_first:
        if 0 < len(rounds) < looks and halves(size, rounds[0]) and fits([size, *rounds]):
            rounds = [size, *rounds]
    return rounds


def grows(one: ProbeSize, other: ProbeSize) -> bool:
    """Whether the other is larger in rows or completions and smaller in neither."""
    return one != other and one.rows <= other.rows and one.answers <= other.answers
