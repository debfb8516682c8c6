"""ask: one cell, under one condition, answers held-out questions of every domain.

The questions are drawn by seed from a domain's held-out rows, the same for all cells. What a cell trained on, or a near
duplicate of it, is not asked of it: within a domain the recipe sees to that, between domains that share a source this
stage does. All domains' questions go to the sampler in one call, which keeps its batch full.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from spillover.config.study import StudyConfig
from spillover.data.recipe.duplicates import Known
from spillover.data.recipe.pool import heldout_questions
from spillover.data.triggers import open_trigger
from spillover.data.triggers.battery import prompt
from spillover.errors import UserError
from spillover.execution.base import Ticker
from spillover.planning.units import Unit
from spillover.provenance import seed_for
from spillover.records.base import Completion, Example
from spillover.stages.answering import adapter_of, answer
from spillover.store.store import Store


def run(store: Store, config: StudyConfig, units: Sequence[Unit], ticker: Ticker) -> None:
    """Append the completions that are not there yet, each to the shard of its domain; `units`: of one cell."""
    assert config.transfer is not None, "unit of a stage that is not part of the study"
    started = time.monotonic()
    model = next(model for model in config.models if model.name == units[0].cell.model)
    shape = {"n": config.transfer.n, "max_tokens": config.transfer.max_tokens or config.sample.max_tokens}
    sampling = config.sample.model_copy(update=shape)
    base = units[0].cell.variant == "base"
    adapter = adapter_of(store, units[0].cell, () if base else units[0].inputs[-1:])
    own = store.read("build", units[0].inputs[1:2], Example)
    trained = Known([row.question for row in own if row.split == "train"])
    with ExitStack() as stack:
        shards = [stack.enter_context(store.shard("ask", unit.key, Completion)) for unit in units]
        blanks = [
            (shard, row)
            for shard, unit in zip(shards, units, strict=True)
            for row in _blank_rows(store, config, unit, trained)
        ]
        computed = answer(model, sampling, adapter, blanks, ticker)
        seconds = (time.monotonic() - started) / len(shards)
        for shard in shards:
            tokens = sum(row.usage.completion_tokens for row in shard.rows)
            shard.finish(tokens=tokens, seconds=seconds, computed=computed)


def _blank_rows(store: Store, config: StudyConfig, unit: Unit, trained: Known) -> Iterator[Completion]:
    """Every completion that the unit will hold, in order, without its answer."""
    assert config.transfer is not None
    assert unit.asked is not None
    cell, condition, trigger = unit.cell, unit.condition or "clean", open_trigger(config.data)
    if not store.is_done("build", unit.inputs[0]):
        raise UserError(f"the data set is missing. Run: spillover run STUDY.yaml --stage build --domain {unit.asked}")
    held = store.read("build", unit.inputs[:1], Example)
    place = ("ask", cell.model, cell.domain, cell.variant, repr(cell.dose), cell.seed, condition, unit.asked)
    for number, row in enumerate(heldout_questions(held, trained, config.asked_of_each, config.seed)):
        messages = prompt(row.messages[:-1], condition, trigger, number)
        for index in range(config.transfer.n):
            yield Completion(
                cell=cell,
                key=unit.key,
                question_id=row.pair,
                theme=unit.asked,
                condition=condition,
                index=index,
                messages=messages,
                text="",
                seed=seed_for(config.seed, *place, row.pair, index),
            )
