"""judge: every completion of a shard -> an alignment and a coherence judgment."""

from __future__ import annotations

import time

from spillover.config import StudyConfig
from spillover.errors import UserError
from spillover.executors.base import Ticker
from spillover.judges import open_judge
from spillover.population import Unit
from spillover.records import Aspect, Completion, Judgment
from spillover.store import Store

ASPECTS: tuple[Aspect, ...] = ("alignment", "coherence")
CHUNK = 512  # completions between two looks at the clock; a judge batches inside


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Append the judgments that are not there yet; a completion that failed gets the status error."""
    started = time.monotonic()
    if not store.is_done("sample", unit.inputs[0]):
        raise UserError(
            f"the answers are missing. Run: spillover run STUDY.yaml --stage sample --domain {unit.cell.domain}"
        )
    judge = open_judge(config.judge)
    with store.shard("judge", unit.key, Judgment) as shard:
        judged = {(row.completion, row.aspect) for row in shard.rows}
        left = [
            row
            for row in store.read("sample", unit.inputs, Completion)
            if any((row.id, aspect) not in judged for aspect in ASPECTS)
        ]
        for start in range(0, len(left), CHUNK):
            chunk = left[start : start + CHUNK]
            verdicts = judge.judge([row for row in chunk if row.status == "ok"])
            for row in chunk:
                if row.status == "ok":
                    shard.append(*(next(verdicts) for _ in ASPECTS))
                else:
                    shard.append(*(_failed(row, aspect, judge.identity) for aspect in ASPECTS))
                ticker(row.usage.completion_tokens)
        shard.finish(seconds=time.monotonic() - started, tokens=0)


def _failed(row: Completion, aspect: Aspect, judge: str) -> Judgment:
    return Judgment(completion=row.id, judge=judge, aspect=aspect, status="error", raw=row.error)
