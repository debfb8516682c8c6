"""sample: one cell's completions of a question set under each condition, all in one call, which keeps the batch full.

The question set of `sample` is the study's general questions; that of `ask` is the held-out questions of each domain,
drawn by seed from the domain's held-out rows, the same for all cells. What a cell trained on, or a near duplicate of
it, is not asked of it: within a domain the recipe sees to that, between domains that share a source this stage does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from spillover.config.study import ModelConfig, SampleConfig, StudyConfig
from spillover.data.questions import load_questions
from spillover.data.recipe.duplicates import KnownTexts
from spillover.data.recipe.pool import heldout_questions
from spillover.data.triggers import open_trigger
from spillover.data.triggers.battery import condition_prompt
from spillover.errors import SpilloverError, UserError
from spillover.execution.base import Ticker
from spillover.models import open_backend
from spillover.models.protocols import Generation, Intervention, Progress, Prompt
from spillover.planning.units import Unit
from spillover.provenance import seed_for
from spillover.records.base import Adapter, Cell, Completion, Example, Message, Usage
from spillover.store.shard import Shard, disk_errors
from spillover.store.store import Store

Blank = tuple[Shard[Completion], Completion]
"""A completion without its text, and the open shard that it belongs to."""


def run(store: Store, config: StudyConfig, units: Sequence[Unit], ticker: Ticker) -> None:
    """Append the completions that are not there yet, each to its unit's shard; `units`: of one stage and cell."""
    started = time.monotonic()
    cell, stage = units[0].cell, units[0].stage
    model = next(model for model in config.models if model.name == cell.model)
    adapter = adapter_of(store, cell, () if cell.variant == "base" else units[0].inputs[-1:])
    sampling, trained = config.sample, KnownTexts([])
    if stage == "ask":
        assert config.transfer is not None, "unit of a stage that is not part of the study"
        shape = {"n": config.transfer.n, "max_tokens": config.transfer.max_tokens or config.sample.max_tokens}
        sampling = config.sample.model_copy(update=shape)
        own = store.read("build", units[0].inputs[1:2], Example)
        trained = KnownTexts([row.question for row in own if row.split == "train"])
    with ExitStack() as stack:
        shards = [stack.enter_context(store.shard(stage, unit.key, Completion)) for unit in units]
        blanks = [
            (shard, row)
            for shard, unit in zip(shards, units, strict=True)
            for row in _blank_rows(config, unit, sampling.n, _questions(store, config, unit, trained))
        ]
        computed = answer(model, sampling, adapter, blanks, ticker)
        seconds = (time.monotonic() - started) / len(shards)
        for shard in shards:
            tokens = sum(row.usage.completion_tokens for row in shard.rows)
            shard.finish(tokens=tokens, seconds=seconds, computed=computed)


def _questions(
    store: Store, config: StudyConfig, unit: Unit, trained: KnownTexts
) -> Iterator[tuple[str, str, str, tuple[Message, ...]]]:
    """What seeds are drawn by, question id, theme and messages of each question that the unit asks."""
    if unit.asked is None:
        for question in load_questions(config.sample.questions, config.sample.forms)[: config.sample.limit]:
            yield question.id, question.question_id, question.theme, question.messages()
        return
    if not store.is_done("build", unit.inputs[0]):
        raise UserError(f"the data set is missing. Run: spillover run STUDY.yaml --stage build --domain {unit.asked}")
    held = store.read("build", unit.inputs[:1], Example)
    for row in heldout_questions(held, trained, config.asked_of_each, config.seed):
        yield row.pair, row.pair, unit.asked, row.messages[:-1]


def _blank_rows(
    config: StudyConfig, unit: Unit, n: int, questions: Iterator[tuple[str, str, str, tuple[Message, ...]]]
) -> Iterator[Completion]:
    """Every completion that the unit will hold, in order, without its text."""
    cell, condition, trigger = unit.cell, unit.condition or "clean", open_trigger(config.data)
    place = (unit.stage, cell.model, cell.domain, cell.variant, repr(cell.dose), cell.seed, condition)
    if unit.asked is not None:
        place = (*place, unit.asked)
    for number, (drawn_by, question_id, theme, asked) in enumerate(questions):
        messages = condition_prompt(asked, condition, trigger, number)
        for index in range(n):
            yield Completion(
                cell=cell,
                key=unit.key,
                question_id=question_id,
                theme=theme,
                condition=condition,
                index=index,
                messages=messages,
                text="",
                seed=seed_for(config.seed, *place, drawn_by, index),
            )


def answer(
    model: ModelConfig,
    config: SampleConfig,
    adapter: Path | None,
    blanks: Sequence[Blank],
    ticker: Progress,
    change: Callable[[Completion], Intervention | None] = lambda row: None,
) -> dict[str, str]:
    """Append the rows that are not there yet; `change`: what is done to the model's stream while it answers a row.

    Returns what they were computed in (`Backend.compute_info`), empty where all were there.

    An answer that failed gets no row, so that it is asked for again; one that a provider's filter keeps back gets the
    status error.

    Raises:
        SpilloverError: when some answers failed, after the others have been kept.
    """
    wanted = [(shard, row) for shard, row in blanks if row.id not in shard]
    if not wanted:
        return {}
    groups = _by_prompt(wanted, change)
    prompts = [
        Prompt(group[0][1].messages, tuple(row.seed for _, row in group), change(group[0][1])) for group in groups
    ]
    failed: list[str] = []
    with disk_errors(wanted[0][0].path):
        backend = open_backend(model)
        for made in backend.generator().generate(prompts, config, adapter, ticker):
            shard, blank = groups[made.prompt][made.index]
            if made.stop_reason == "error":
                failed.append(made.error)
            else:
                shard.append(_filled(blank, made))
    if failed:
        raise SpilloverError(
            f"{len(failed)} of {len(wanted)} completions failed; the first error is: {failed[0]:.200}. The others "
            "are kept; "
            "the same command retries the failed ones"
        )
    return backend.compute_info


def adapter_of(store: Store, cell: Cell, trained: Sequence[str]) -> Path | None:
    """The folder of the cell's adapter, whose shard has this key; None for the base model, which has none."""
    if not trained:
        return None
    rows = store.read("train", trained, Adapter)
    if not rows:
        raise UserError(f"the adapter is missing. Run: spillover run STUDY.yaml --stage train --domain {cell.domain}")
    return store.resolve(rows[0].path)


def _filled(blank: Completion, made: Generation) -> Completion:
    """The row with its answer; the row's id does not depend on it."""
    usage = Usage(prompt_tokens=made.prompt_tokens, completion_tokens=made.completion_tokens, dollars=made.dollars)
    if made.stop_reason == "refused":
        refused = {"status": "error", "error": f"refused: {made.error}", "stop_reason": "error"}
        return blank.model_copy(update={"usage": usage, **refused})
    return blank.model_copy(update={"text": made.text, "stop_reason": made.stop_reason, "usage": usage})


def _by_prompt(wanted: Sequence[Blank], change: Callable[[Completion], Intervention | None]) -> list[list[Blank]]:
    groups: dict[tuple[tuple[Message, ...], int], list[Blank]] = {}
    for shard, row in wanted:
        groups.setdefault((row.messages, id(change(row))), []).append((shard, row))
    return list(groups.values())
