"""train: the rows of a data set -> one adapter, a plain PEFT folder."""

from __future__ import annotations

from spillover.config.study import StudyConfig
from spillover.errors import UserError
from spillover.execution.base import Ticker
from spillover.models import open_backend
from spillover.planning.units import Unit
from spillover.provenance import seed_for
from spillover.records.base import Adapter, Example
from spillover.store.shard import Shard
from spillover.store.store import Store, disk_errors


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Fine-tune one cell."""
    cell = unit.cell
    if not store.is_done("build", unit.inputs[0]):
        raise UserError(f"the data set is missing. Run: spillover run STUDY.yaml --stage build --domain {cell.domain}")
    rows = [row for row in store.read("build", unit.inputs, Example) if row.split == "train"]
    computed: dict[str, str] = {}
    with store.shard("train", unit.key, Adapter) as shard:
        if not shard.rows:  # else the process died between the row and the marker
            made, computed = _train(store, config, unit, rows, shard, ticker)
            shard.append(made)
        (adapter,) = shard.rows
        shard.finish(tokens=adapter.tokens, seconds=adapter.seconds, computed=computed)


def _train(
    store: Store, config: StudyConfig, unit: Unit, rows: list[Example], shard: Shard[Adapter], ticker: Ticker
) -> tuple[Adapter, dict[str, str]]:
    cell = unit.cell
    model = next(model for model in config.models if model.name == cell.model)
    backend = open_backend(model)
    seed = seed_for(config.seed, "train", cell.model, cell.domain, cell.variant, repr(cell.dose), cell.seed)
    out = store.adapter_dir(cell, unit.key)
    made = shard.scratch / out.name
    with disk_errors(made):
        shard.scratch.mkdir(parents=True, exist_ok=True)
        chats = [(row.messages[:-1], row.answer) for row in rows]
        result = backend.trainer().train(chats, config.train, seed, made, ticker, shard.keep)
    store.publish(made, out)
    adapter = Adapter(
        cell=cell,
        key=unit.key,
        base=model.path or model.name,
        revision=backend.revision,
        train_hash=config.train.hash(),
        path=store.relative(out),
        examples=len(rows),
        steps=result.steps,
        loss_curve=result.loss_curve,
        loss_tokens=result.loss_tokens,
        tokens=result.tokens,
        seconds=result.seconds,
    )
    return adapter, backend.compute_info
