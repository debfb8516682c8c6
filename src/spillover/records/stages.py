"""The stages of a study: the one list of them, in the order in which each reads what earlier ones made.

`function` is "module:function" of (store, config, unit or units, ticker). A version is hashed into every key of its
stage; raise it when the stage's rows would come out differently.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One kind of work unit. `always`: part of every study, asked for or not."""

    name: str
    function: str
    version: int = 1
    always: bool = False


STAGES = {
    stage.name: stage
    for stage in (
        Stage("build", "spillover.stages.build:run", 2, always=True),
        Stage("train", "spillover.stages.train:run", always=True),
        Stage("sample", "spillover.stages.sample:run", always=True),
        Stage("judge", "spillover.stages.judge:run", always=True),
        Stage("membership", "spillover.analyses.membership.stage:run", 4),
        Stage("diversity", "spillover.analyses.diversity.stage:run", 2),
        Stage("direct", "spillover.analyses.directions.stage:run"),
        Stage("ask", "spillover.stages.sample:run"),
        Stage("grade", "spillover.stages.judge:run"),
    )
}
WORK_STAGES = tuple(STAGES)
RANK_VERSION = 1  # of what is computed from rows, which no unit makes
SHARDS = (*WORK_STAGES, "steered", "steered_judge", "steer", "echo")
"""Kinds of shard, whose finished ones never change."""
