"""judge: every completion of a shard -> an alignment and a coherence judgment."""

from __future__ import annotations

import time

from spillover.config import JudgeConfig, StudyConfig
from spillover.errors import SpilloverError, UserError
from spillover.executors.base import Ticker
from spillover.judges import open_judge
from spillover.population import Unit
from spillover.records import Aspect, Completion, Judgment
from spillover.store import Store

ASPECTS: tuple[Aspect, ...] = ("alignment", "coherence")
CHUNK = 512  # completions between two looks at the clock; a judge batches inside


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Judge a unit of the study by the study's judge."""
    if not store.is_done("sample", unit.inputs[0]):
        raise UserError(
            f"the answers are missing. Run: spillover run STUDY.yaml --stage sample --domain {unit.cell.domain}"
        )
    judge_shard(store, config.judge, unit.key, unit.inputs[0], None, ticker)


def judge_shard(
    store: Store, config: JudgeConfig, key: str, answers: str, chosen: frozenset[str] | None, ticker: Ticker
) -> None:
    """Append the judgments that are not there yet; a completion that failed gets the status error.

    An answer on which the judge itself failed gets no row, so that it is asked for again.

    Args:
        store: the run folder.
        config: the judge.
        key: of the shard of judgments.
        answers: key of the shard of completions.
        chosen: ids of the completions to judge, all when None; the shard is finished when it has all of them.
        ticker: told the tokens of the answers.

    Raises:
        SpilloverError: when the judge failed on some answers, after the others have been judged.
    """
    started = time.monotonic()
    judge = open_judge(config)
    with store.shard("judge", key, Judgment) as shard:
        judged = {(row.completion, row.aspect) for row in shard.rows}
        rows = store.read("sample", [answers], Completion)
        left = [row for row in rows if any((row.id, aspect) not in judged for aspect in ASPECTS)]
        todo = [row for row in left if chosen is None or row.id in chosen]
        failed: list[Judgment] = []
        for start in range(0, len(todo), CHUNK):
            chunk = todo[start : start + CHUNK]
            verdicts = judge.judge([row for row in chunk if row.status == "ok"])
            for row in chunk:
                if row.status == "ok":
                    both = [next(verdicts) for _ in ASPECTS]
                    errors = [verdict for verdict in both if verdict.status == "error"]
                    failed += errors[:1]
                    shard.append(*(() if errors else both))
                else:
                    shard.append(*(_failed(row, aspect, judge.identity) for aspect in ASPECTS))
                ticker(row.usage.completion_tokens)
        if failed:
            raise SpilloverError(
                f"the judge failed on {len(failed)} of {len(todo)} answers, first with: {failed[0].raw:.200}. "
                "The other verdicts are kept; the same command asks for these again"
            )
        if len(todo) == len(left):
            shard.finish(seconds=time.monotonic() - started, tokens=0)


def _failed(row: Completion, aspect: Aspect, judge: str) -> Judgment:
    return Judgment(completion=row.id, judge=judge, aspect=aspect, status="error", raw=row.error)
