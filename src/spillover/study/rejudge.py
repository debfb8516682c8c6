"""Judge the answers of a run again, by another judge: nothing is generated, and the same command resumes it.

The judgments lie in shards of their own, whose keys are those that the judge would have in a study. A part of the
answers is an equal share of every cell under each condition, chosen by hashes of the seed and the answers' ids: more
answers hold fewer, so that what was judged before is never judged again.

Only complete shards of answers are judged, so that none is taken for judged of which more answers come; the others are
judged by the same command once the study has finished them.

Answers about other domains are judged again too, unless a part is asked for. Steered answers keep the study's judge:
its judgments decided where a sweep ended.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from spillover.config.study import JudgeConfig
from spillover.errors import CostLimitReached, UserError
from spillover.execution.base import Call, Outcome, Pool
from spillover.execution.runner import open_executor, run_units, running
from spillover.judges import open_judge
from spillover.planning.units import judge_key
from spillover.progress import Progress
from spillover.provenance import cores
from spillover.records.base import Cell, Completion, Condition, Failure, Judgment
from spillover.records.judges import RunJudge
from spillover.study.run import Run
from spillover.text import several


class _UnjudgedShards(NamedTuple):
    """What one call judges: a cell, the stages of its answers and judgments, and the keys of judgments and answers."""

    cell: str
    stages: tuple[str, str]
    shards: list[tuple[str, str]]


def rejudge(
    run: Run,
    config: JudgeConfig,
    limit: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[RunJudge, list[Failure]]:
    """Judge what this judge has not judged yet, rank by it, compare it with the first judge, and write the report.

    Args:
        run: a study's run, or imported answers.
        config: the judge.
        limit: about how many answers; all when None.
        seed: of their choice.
        workers: processes; when None one a core, or one for a judge with its own model. One stays in this process.
        progress: where events go; nowhere when None.

    Raises:
        UserError: when no cell's answers are complete.
        CostLimitReached: when the judge may spend no more; what it judged is kept.
        RunInterrupted: on an interrupt, likewise.
    """
    progress = progress or Progress(lambda event: None)
    judge = open_judge(config)
    with run.store.lock():
        keys, asked = run.complete("sample"), run.complete("ask")
        answers = run.store.read("sample", keys, Completion)
        if not answers:
            raise UserError(f"{run.path} has no finished completions to judge. Run the study's sample stage first.")
        chosen = None if limit is None or limit >= len(answers) else frozenset(choose(answers, limit, seed))
        graded = next((known.graded for known in run.judges() if known.identity == judge.identity), {})
        entry = RunJudge(
            identity=judge.identity,
            source="again",
            about=judge.describe(),
            options=config.model_dump(mode="json"),
            shards={key: judge_key(judge.identity, key) for key in keys},
            graded={key: judge_key(judge.identity, key) for key in asked} if chosen is None else graded,
            limit=None if chosen is None else limit,
            seed=seed,
        )
        left = _unjudged(run, entry)
        own = run.judge()
        if own is None or own.identity != judge.identity:
            run.add_judge(entry)
        failures, stopped = _judge(run, config, left, chosen, workers, progress)
        if all(run.store.is_done("judge", key) for key in entry.shards.values()):
            entry = entry.model_copy(update={"limit": None})
        elif chosen is not None:
            judged = {row.completion for row in run.store.read("judge", entry.shards.values(), Judgment)}
            entry = entry.model_copy(update={"limit": len(judged)})
        if own is None or own.identity != judge.identity:
            run.add_judge(entry)
        run.rank()
        run.rank_others()
        run.conclude("agreement")
        run.report()
    if stopped is not None:
        raise stopped
    return entry, failures


def choose(completions: Sequence[Completion], n: int, seed: int) -> list[str]:
    """Ids of n answers, an equal share of each cell under each condition; a smaller n is a part of a larger one."""
    strata: defaultdict[tuple[Cell, Condition], list[tuple[bytes, str]]] = defaultdict(list)
    for row in completions:
        draw = hashlib.blake2b(f"{seed}:{row.id}".encode(), digest_size=8).digest()
        strata[row.cell, row.condition].append((draw, row.id))
    places = [
        ((rank + int.from_bytes(draw, "big") / 2**64) / len(members), name)
        for members in strata.values()
        for rank, (draw, name) in enumerate(sorted(members))
    ]
    return [name for _, name in sorted(places)[:n]]


def notes(run: Run, judge: RunJudge) -> list[str]:
    """What that judge could not judge yet, what else it has judged again, and what keeps the study's judge."""
    messages: list[str] = []
    if begun := run.begun("sample", "ask"):
        messages.append(
            f"Skipped {several(begun, 'completion')} of unfinished cells. "
            "Finish the study, then run this command again."
        )
    if judge.graded:
        messages.append(
            f"Completions about other domains were also judged. Show them: spillover transfer {run.path} --judge "
            f"{judge.identity}"
        )
    elif run.plan.get("ask"):
        messages.append("Completions about other domains keep the study's judge; omit --limit to judge them too.")
    if run.steering_points() or run.steering_squares():
        messages.append("Steered completions keep the study's judge, whose judgments determined where a sweep ended.")
    return messages


def _unjudged(run: Run, judge: RunJudge) -> list[_UnjudgedShards]:
    """Shards without their judgments: each alone, but all that a cell was asked about domains in one call."""
    by_call: defaultdict[tuple[tuple[str, str], str], list[tuple[str, str]]] = defaultdict(list)
    cells = {unit.key: unit.cell.name for stage in ("sample", "ask") for unit in run.plan.get(stage, [])}
    for stages, shards in ((("sample", "judge"), judge.shards), (("ask", "grade"), judge.graded)):
        for key, judged in shards.items():
            if not run.store.is_done(stages[1], judged):
                by_call[stages, cells[key] if stages[0] == "ask" else key].append((judged, key))
    return [_UnjudgedShards(cells[shards[0][1]], stages, shards) for (stages, _), shards in by_call.items()]


def _judge(
    run: Run,
    config: JudgeConfig,
    left: Sequence[_UnjudgedShards],
    chosen: frozenset[str] | None,
    workers: int | None,
    progress: Progress,
) -> tuple[list[Failure], CostLimitReached | None]:
    if not left:
        return [], None
    left_by_judgment_key = {one.shards[0][0]: one for one in left}
    stopped: list[CostLimitReached] = []

    def call(name: str, shards: Sequence[tuple[str, str]]) -> Call:
        what = (run.store, config, shards, chosen, left_by_judgment_key[name].stages)
        return Call(name, "spillover.stages.judge:judge_shards", what)

    def ended(outcome: Outcome) -> None:
        if isinstance(outcome.error, CostLimitReached):
            stopped.append(outcome.error)

    many = workers or (1 if config.options.get("path") else cores())  # each worker loads a judge's own model
    opened = open_executor("local", Pool(min(many, len(left))))
    with running(opened, f"Finished judgments are saved in {run.path}") as executor:
        failures = run_units(
            "judge",
            {name: one.shards for name, one in left_by_judgment_key.items()},
            call,
            executor,
            progress,
            lost=lambda shards: [left_by_judgment_key[shards[0][0]].cell],
            ended=ended,
        )
    return failures, next(iter(stopped), None)
