"""grade: one cell's answers to held-out questions -> judgments by the study's judge."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.config.study import StudyConfig
from spillover.errors import UserError
from spillover.execution.base import Ticker
from spillover.planning.units import Unit
from spillover.stages.judging import judge_shards
from spillover.store.store import Store


def run(store: Store, config: StudyConfig, units: Sequence[Unit], ticker: Ticker) -> None:
    """Judge the answers that a cell gave about every asked domain."""
    for unit in units:
        if not store.is_done("ask", unit.inputs[0]):
            raise UserError(
                f"the completions are missing. Run: spillover run STUDY.yaml --stage ask --domain {unit.cell.domain}"
            )
    wanted = [(unit.key, unit.inputs[0]) for unit in units]
    judge_shards(store, config.judge, wanted, None, ("ask", "grade"), ticker)
