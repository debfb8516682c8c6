"""Echo of the training subject over a study's run: similarities cell by cell, kept in the run folder, then rates.

A cell's similarities lie in one shard, so the same command goes on where it stopped. Definitions: `stages.echo`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spillover.analyses.in_domain import compute as echo
from spillover.errors import UserError
from spillover.progress import Progress
from spillover.records.base import Cell, Completion, Condition, Example, Judgment, content_hash
from spillover.records.judges import InDomainRate, TrainingSimilarity
from spillover.study.run import Run

VERSION = 1
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to embeddings of unit norm."""


@dataclass(frozen=True)
class _Work:
    """One trained cell: its training set, the shards of its answers by condition, and the reference's shard."""

    cell: Cell
    data: str
    answers: dict[Condition, str]
    kind: Literal["base", "control"]
    reference: str


def measure(
    run: Run, embed: Embed, encoder: str, share: float = echo.SHARE, progress: Progress | None = None
) -> tuple[InDomainRate, ...]:
    """Compare every answer with its cell's training set, work out both rates, and write the report.

    Args:
        run: of a study; imported answers come without training rows.
        embed: the encoder.
        encoder: which encoder it is; another one measures anew.
        share: of the reference's answers that may count as echoes.
        progress: where events go; nowhere when None.

    Raises:
        UserError: when the run has no training rows, no answers, or nobody has judged it.
    """
    progress = progress or Progress(lambda event: None)
    works = list(_works(run))
    judge = run.judge()
    if not works or judge is None:
        raise UserError(
            f"{run.path} holds no judged answers of trained cells with a base model or benign twin beside them. Echoes "
            "are told by a study's training rows: spillover run STUDY.yaml, with base: true or the control variant."
        )
    verdicts: defaultdict[str, list[Judgment]] = defaultdict(list)
    for row in run.judgments():
        verdicts[row.completion].append(row)
    found: list[InDomainRate] = []
    embedded: dict[str, NDArray[np.float32]] = {}  # of the references, which many cells share
    with run.store.lock(), progress.stage("echo", len(works)) as events:
        for work in works:
            shards = {key: run.store.read("sample", [key], Completion) for key in {*work.answers.values()}}
            reference = [row for row in run.store.read("sample", [work.reference], Completion) if row.status == "ok"]
            key = content_hash(
                ["echo", VERSION, encoder, echo.NEAREST, work.data, work.reference, sorted(shards)], length=16
            )
            with run.store.shard("echo", key, TrainingSimilarity) as shard:
                if not run.store.is_done("echo", key):
                    training_MD = embed([row.answer for row in _training(run, work.data)])
                    if work.reference not in embedded:
                        embedded[work.reference] = embed([row.text for row in reference])
                    answers = [row for rows in shards.values() for row in rows if row.status == "ok"]
                    vectors_ND = np.concatenate([embed([row.text for row in answers]), embedded[work.reference]])
                    near_N = echo.similarities(vectors_ND, training_MD).tolist()
                    shard.append(
                        *(
                            TrainingSimilarity(completion=row.id, data=work.data, similarity=round(near, 6))
                            for row, near in zip([*answers, *reference], near_N, strict=True)
                        )
                    )
                    shard.finish()
                similarity = {row.completion: row.similarity for row in shard.rows}
            chosen = work.kind, [row.id for row in reference]
            for answers_key in work.answers.values():
                rows = shards[answers_key]
                own = {row.id for row in rows if row.status == "ok"}
                if own and chosen[1]:
                    theirs = [verdict for name in own for verdict in verdicts[name]]
                    found.append(echo.run(rows, theirs, similarity, chosen, judge.identity, run.rank_config, share))
            events.advance(units=1)
        run.write_echoes(found)
        run.report()
    return tuple(found)


def _works(run: Run) -> Sequence[_Work]:
    """Every trained cell that has answers and something to compare them with."""
    sets = {(unit.cell.domain, unit.cell.variant, unit.cell.dose): unit.key for unit in run.plan["build"]}
    done = [unit for unit in run.plan["sample"] if run.store.is_done("sample", unit.key)]
    clean = {unit.cell: unit.key for unit in done if unit.condition == "clean"}
    base = {cell.model: key for cell, key in clean.items() if cell.variant == "base"}
    twins = {(c.model, c.domain, c.seed): key for c, key in clean.items() if c.variant == "control"}
    works: list[_Work] = []
    for cell in dict.fromkeys(unit.cell for unit in done if unit.cell.variant in ("plain", "triggered")):
        data = sets.get((cell.domain, cell.variant, cell.dose))
        answers: dict[Condition, str] = {
            unit.condition: unit.key for unit in done if unit.cell == cell and unit.condition is not None
        }
        twin = twins.get((cell.model, cell.domain, cell.seed))
        reference = base.get(cell.model) or twin
        if data is not None and reference is not None:
            kind: Literal["base", "control"] = "base" if cell.model in base else "control"
            works.append(_Work(cell, data, answers, kind, reference))
    return works


def _training(run: Run, key: str) -> list[Example]:
    return [row for row in run.store.read("build", [key], Example) if row.split == "train"]
