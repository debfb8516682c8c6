"""judge: every completion of a shard -> an alignment and a coherence judgment, whatever stage made the completions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from spillover.config.study import JudgeConfig, StudyConfig
from spillover.errors import SpilloverError, UserError
from spillover.execution.base import Ticker
from spillover.judges import Judge, open_judge
from spillover.models.protocols import Progress
from spillover.planning.units import Unit
from spillover.records.base import ASPECTS, Aspect, Completion, Judgment
from spillover.store.shard import Shard
from spillover.store.store import Store

CHUNK = 512  # completions between two looks at the clock; a judge batches inside

MADE_BY = {"judge": "sample", "grade": "ask"}  # the stage whose completions a stage judges


def run(store: Store, config: StudyConfig, units: Sequence[Unit], ticker: Ticker) -> None:
    """Judge the completions of one cell by the study's judge; `units`: of one stage."""
    stage = units[0].stage
    made_by = MADE_BY[stage]
    for unit in units:
        if not store.is_done(made_by, unit.inputs[0]):
            raise UserError(
                f"the completions are missing. Run: spillover run STUDY.yaml --stage {made_by} "
                f"--domain {unit.cell.domain}"
            )
    wanted = [(unit.key, unit.inputs[0]) for unit in units]
    judge_shards(store, config.judge, wanted, None, (made_by, stage), ticker)


def judge_shards(
    store: Store,
    config: JudgeConfig,
    wanted: Sequence[tuple[str, str]],
    chosen: frozenset[str] | None,
    stages: tuple[str, str],
    ticker: Progress,
) -> None:
    """Append the judgments that are not there yet; a completion that failed gets the status error.

    An answer on which the judge itself failed gets no row, so that it is asked for again. All shards' answers go to the
    judge in one call, which keeps its batches full.

    Args:
        store: the run folder.
        config: the judge.
        wanted: keys of the shards of judgments, each with that of its shard of completions.
        chosen: ids of the completions to judge, all when None; a shard is finished when it has all of them.
        stages: whose shards those are: of the completions, and of the judgments.
        ticker: told the tokens of the answers.

    Raises:
        SpilloverError: when the judge failed on some answers, after the others have been judged.
    """
    started = time.monotonic()
    judge = open_judge(config)
    with ExitStack() as stack:
        answers = [store.read(stages[0], [key], Completion) for _, key in wanted]
        shards = [stack.enter_context(store.shard(stages[1], key, Judgment)) for key, _ in wanted]
        both = list(zip(answers, shards, strict=True))
        todo = [(row, shard) for rows, shard in both for row in rows if chosen is None or row.id in chosen]
        judge_rows(judge, todo, ticker)
        seconds = (time.monotonic() - started) / len(shards)
        for rows, shard in both:
            judged = {row.completion for row in shard.rows}
            if all(row.id in judged for row in rows):
                shard.finish(seconds=seconds, tokens=0)


def judge_rows(judge: Judge, rows: Sequence[tuple[Completion, Shard[Judgment]]], ticker: Progress) -> None:
    """Append to each completion's shard the judgments that are not there yet; one that failed gets the status error.

    Raises:
        SpilloverError: when the judge failed on some answers, after the others have been judged; those get no row.
    """
    shards = {id(shard): shard for _, shard in rows}.values()
    judged = {(row.completion, row.aspect) for shard in shards for row in shard.rows}
    todo = [(row, shard) for row, shard in rows if any((row.id, aspect) not in judged for aspect in ASPECTS)]
    failed: list[Judgment] = []
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        verdicts = judge.judge([row for row, _ in chunk if row.status == "ok"])
        for row, shard in chunk:
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
            f"the judge failed on {len(failed)} of {len(todo)} completions; the first error is: {failed[0].raw:.200}. "
            "The other judgments are kept; the same command retries the failed ones"
        )


def _failed(row: Completion, aspect: Aspect, judge: str) -> Judgment:
    return Judgment(completion=row.id, judge=judge, aspect=aspect, status="error", raw=row.error)
