"""build: the pairs of a domain -> the rows of one data set, train and held-out."""

from __future__ import annotations

import time

from spillover.config.study import StudyConfig
from spillover.data.domains import open_domain
from spillover.data.recipe.recipe import build
from spillover.data.triggers import open_trigger
from spillover.execution.base import Ticker
from spillover.models import open_backend
from spillover.planning.units import Unit
from spillover.records.base import Example
from spillover.store.store import Store


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Write the examples of one (domain, variant, dose)."""
    started = time.monotonic()
    cell = unit.cell
    assert cell.variant != "base", cell  # the base model trains on nothing
    result = build(
        open_domain(cell.domain, config.data),
        cell.variant,
        config.data,
        cell.dose,
        open_trigger(config.data),
        config.seed,
        open_backend(config.models[0]).count_tokens,
    )
    with store.shard("build", unit.key, Example) as shard:
        shard.append(*result.examples)
        tokens = sum(example.answer_tokens for example in shard.rows)
        shard.finish(tokens=tokens, seconds=time.monotonic() - started, report=result.report.model_dump(mode="json"))
