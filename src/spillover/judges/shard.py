"""One shard of answers judged into one shard of verdicts, whatever asked for the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from spillover.backends.base import Progress
from spillover.config import JudgeConfig
from spillover.errors import SpilloverError
from spillover.judges import open_judge
from spillover.judges.base import Judge
from spillover.records import Aspect, Completion, Judgment
from spillover.shard import Shard
from spillover.store import Store

ASPECTS: tuple[Aspect, ...] = ("alignment", "coherence")
CHUNK = 512  # completions between two looks at the clock; a judge batches inside


def judge_shard(
    store: Store,
    config: JudgeConfig,
    key: str,
    answers: str,
    chosen: frozenset[str] | None,
    stages: tuple[str, str],
    ticker: Progress,
) -> None:
    """Append the judgments that are not there yet; a completion that failed gets the status error.

    An answer on which the judge itself failed gets no row, so that it is asked for again.

    Args:
        store: the run folder.
        config: the judge.
        key: of the shard of judgments.
        answers: key of the shard of completions.
        chosen: ids of the completions to judge, all when None; the shard is finished when it has all of them.
        stages: whose shards those are: of the completions, and of the judgments.
        ticker: told the tokens of the answers.

    Raises:
        SpilloverError: when the judge failed on some answers, after the others have been judged.
    """
    started = time.monotonic()
    judge = open_judge(config)
    with store.shard(stages[1], key, Judgment) as shard:
        rows = store.read(stages[0], [answers], Completion)
        judge_rows(judge, [row for row in rows if chosen is None or row.id in chosen], shard, ticker)
        judged = {row.completion for row in shard.rows}
        if all(row.id in judged for row in rows):
            shard.finish(seconds=time.monotonic() - started, tokens=0)


def judge_rows(judge: Judge, rows: Sequence[Completion], shard: Shard[Judgment], ticker: Progress) -> None:
    """Append the verdicts that are not there yet; a completion that failed gets the status error.

    Raises:
        SpilloverError: when the judge failed on some answers, after the others have been judged; those get no row.
    """
    judged = {(row.completion, row.aspect) for row in shard.rows}
    todo = [row for row in rows if any((row.id, aspect) not in judged for aspect in ASPECTS)]
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


def _failed(row: Completion, aspect: Aspect, judge: str) -> Judgment:
    return Judgment(completion=row.id, judge=judge, aspect=aspect, status="error", raw=row.error)
