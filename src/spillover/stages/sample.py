"""sample: one cell, under one condition, answers every question n times."""

from __future__ import annotations

import time

from spillover.answering import adapter_of, answer
from spillover.config import StudyConfig
from spillover.executors.base import Ticker
from spillover.population import Unit
from spillover.provenance import seed_for
from spillover.questions import load
from spillover.records import Completion, Condition
from spillover.store import Store
from spillover.triggers import open_trigger
from spillover.triggers.battery import prompt


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Append the completions that are not there yet, as they come."""
    started = time.monotonic()
    cell, condition = unit.cell, unit.condition or "clean"
    model = next(model for model in config.models if model.name == cell.model)
    adapter = adapter_of(store, cell, unit.inputs)
    with store.shard("sample", unit.key, Completion) as shard:
        blanks = [(shard, row) for row in _blank_rows(config, unit, condition)]
        answer(model, config.sample, adapter, blanks, ticker)
        tokens = sum(row.usage.completion_tokens for row in shard.rows)
        shard.finish(tokens=tokens, seconds=time.monotonic() - started)


def _blank_rows(config: StudyConfig, unit: Unit, condition: Condition) -> list[Completion]:
    """Every completion that the unit will hold, in order, without its answer."""
    trigger = open_trigger(config.data)
    cell = unit.cell
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
