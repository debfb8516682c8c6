"""Completions without their text -> a model's answers: one call of the sampler, every row in its shard as it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from spillover.config.study import ModelConfig, SampleConfig
from spillover.errors import SpilloverError, UserError
from spillover.models import open_backend
from spillover.models.protocols import Generation, Intervention, Progress, Prompt
from spillover.records.base import Adapter, Cell, Completion, Message, Usage
from spillover.store.shard import Shard, disk_errors
from spillover.store.store import Store

Blank = tuple[Shard[Completion], Completion]
"""A completion without its text, and the open shard that it belongs to."""


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
