"""judge: every completion of a shard -> an alignment and a coherence judgment."""

from __future__ import annotations

from spillover.config.study import StudyConfig
from spillover.errors import UserError
from spillover.execution.base import Ticker
from spillover.planning.units import Unit
from spillover.stages.judging import judge_shards
from spillover.store.store import Store


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Judge a unit of the study by the study's judge."""
    if not store.is_done("sample", unit.inputs[0]):
        raise UserError(
            f"the completions are missing. Run: spillover run STUDY.yaml --stage sample --domain {unit.cell.domain}"
        )
    judge_shards(store, config.judge, [(unit.key, unit.inputs[0])], None, ("sample", "judge"), ticker)
