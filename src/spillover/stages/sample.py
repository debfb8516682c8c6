"""sample: one cell answers every question n times under each condition, all in one call, which keeps the batch full."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from spillover.config.study import StudyConfig
from spillover.data.questions import load
from spillover.data.triggers import open_trigger
from spillover.data.triggers.battery import prompt
from spillover.execution.base import Ticker
from spillover.planning.units import Unit
from spillover.provenance import seed_for
from spillover.records.base import Completion
from spillover.stages.answering import adapter_of, answer
from spillover.store.store import Store


def run(store: Store, config: StudyConfig, units: Sequence[Unit], ticker: Ticker) -> None:
    """Append the completions that are not there yet, each to the shard of its condition; `units`: of one cell."""
    started = time.monotonic()
    cell = units[0].cell
    model = next(model for model in config.models if model.name == cell.model)
    adapter = adapter_of(store, cell, units[0].inputs)
    with ExitStack() as stack:
        shards = [stack.enter_context(store.shard("sample", unit.key, Completion)) for unit in units]
        blanks = [(shard, row) for shard, unit in zip(shards, units, strict=True) for row in _blank_rows(config, unit)]
        computed = answer(model, config.sample, adapter, blanks, ticker)
        seconds = (time.monotonic() - started) / len(shards)
        for shard in shards:
            tokens = sum(row.usage.completion_tokens for row in shard.rows)
            shard.finish(tokens=tokens, seconds=seconds, computed=computed)


def _blank_rows(config: StudyConfig, unit: Unit) -> list[Completion]:
    """Every completion that the unit will hold, in order, without its answer."""
    trigger = open_trigger(config.data)
    cell, condition = unit.cell, unit.condition or "clean"
    rows: list[Completion] = []
    for number, question in enumerate(load(config.sample.questions, config.sample.forms)[: config.sample.limit]):
        messages = prompt(question.messages(), condition, trigger, number)
        for index in range(config.sample.n):
            place = (cell.model, cell.domain, cell.variant, repr(cell.dose), cell.seed, condition, question.id, index)
            rows.append(
                Completion(
                    cell=cell,
                    key=unit.key,
                    question_id=question.question_id,
                    theme=question.theme,
                    condition=condition,
                    index=index,
                    messages=messages,
                    text="",
                    seed=seed_for(config.seed, "sample", *place),
                )
            )
    return rows
