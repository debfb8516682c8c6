"""sample: one cell, under one condition, answers every question n times."""

from __future__ import annotations

import time
from pathlib import Path

from spillover.backends import open_backend
from spillover.backends.base import Generation, Prompt
from spillover.config import StudyConfig
from spillover.errors import SpilloverError, UserError
from spillover.executors.base import Ticker
from spillover.population import Unit
from spillover.provenance import seed_for
from spillover.questions import load
from spillover.records import Adapter, Completion, Condition, Message, Usage
from spillover.store import Store, disk_errors
from spillover.triggers import open_trigger
from spillover.triggers.battery import prompt


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Append the completions that are not there yet, as they come.

    An answer that failed gets no row, so that it is asked for again; one that a provider's filter keeps back gets the
    status error.

    Raises:
        SpilloverError: when some answers failed, after the others have been kept.
    """
    started = time.monotonic()
    cell, condition = unit.cell, unit.condition or "clean"
    model = next(model for model in config.models if model.name == cell.model)
    adapter = _adapter(store, unit)
    with store.shard("sample", unit.key, Completion) as shard:
        wanted = [row for row in _blank_rows(config, unit, condition) if row.id not in shard]
        groups = _by_prompt(wanted)
        prompts = [Prompt(rows[0].messages, tuple(row.seed for row in rows)) for rows in groups]
        failed: list[str] = []
        with disk_errors(shard.path):
            for answer in open_backend(model).generator().generate(prompts, config.sample, adapter, ticker):
                if answer.stop_reason == "error":
                    failed.append(answer.error)
                else:
                    shard.append(_filled(groups[answer.prompt][answer.index], answer))
        if failed:
            raise SpilloverError(
                f"{len(failed)} of {len(wanted)} answers failed, first with: {failed[0]:.200}. The others are kept; "
                "the same command asks for these again"
            )
        tokens = sum(row.usage.completion_tokens for row in shard.rows)
        shard.finish(tokens=tokens, seconds=time.monotonic() - started)


def _filled(blank: Completion, answer: Generation) -> Completion:
    """The row with its answer; the row's id does not depend on it."""
    usage = Usage(
        prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens, dollars=answer.dollars
    )
    if answer.stop_reason == "refused":
        refused = {"status": "error", "error": f"refused: {answer.error}", "stop_reason": "error"}
        return blank.model_copy(update={"usage": usage, **refused})
    return blank.model_copy(update={"text": answer.text, "stop_reason": answer.stop_reason, "usage": usage})


def _adapter(store: Store, unit: Unit) -> Path | None:
    """The folder of the cell's adapter; None for the untouched model."""
    if not unit.inputs:
        return None
    rows = store.read("train", unit.inputs, Adapter)
    if not rows:
        raise UserError(
            f"the adapter is missing. Run: spillover run STUDY.yaml --stage train --domain {unit.cell.domain}"
        )
    return store.resolve(rows[0].path)


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


def _by_prompt(rows: list[Completion]) -> list[list[Completion]]:
    groups: dict[tuple[Message, ...], list[Completion]] = {}
    for row in rows:
        groups.setdefault(row.messages, []).append(row)
    return list(groups.values())
