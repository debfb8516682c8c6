"""Who is asked what for transfer: every cell, under each condition, the held-out questions of every domain.

One unit an asked domain, so that a study with one more domain asks for that domain only; the units of a cell go to the
sampler together. `ask` gives the answers, `grade` their judgments by the study's judge.
"""

from __future__ import annotations

from collections.abc import Sequence

from spillover.config.study import StudyConfig
from spillover.planning.units import Ingredients, Unit, judge_key, weights
from spillover.records.base import Cell, content_hash

VERSION = 1
PREFERRED = ("plain", "control", "triggered")  # whose data set questions are read from; they are the same in all


def asked_units(config: StudyConfig, made_of: Ingredients, plan: dict[str, list[Unit]]) -> dict[str, list[Unit]]:
    """The units of both stages, none where the study does not ask for it; `plan`: those of the stages before."""
    found: dict[str, list[Unit]] = {"ask": [], "grade": []}
    wanted = config.transfer
    if wanted is None:
        return found
    shape = config.sample.model_dump(mode="json", include={"temperature", "top_p"})
    limits = [config.asked_of_each, wanted.n, wanted.max_tokens or config.sample.max_tokens]
    trigger = made_of.trigger
    models = {model.name: weights(model) for model in config.models}
    data = asked_data([(unit.cell, unit.key) for unit in plan["build"]])
    for unit in plan["sample"]:
        cell, condition = unit.cell, unit.condition
        if cell.variant not in wanted.variants or condition not in wanted.conditions:
            continue
        carried = "" if condition == "clean" else trigger
        own = () if cell.variant == "base" else (data[cell.domain],)
        who = [models[cell.model], cell.model_dump(mode="json"), *own, *unit.inputs]
        for domain in made_of.domains:
            content = ["ask", VERSION, config.seed, shape, limits, condition, carried, domain, data[domain], who]
            key = content_hash(content, length=16)
            inputs = (data[domain], *own, *unit.inputs)
            found["ask"].append(Unit("ask", cell, key, condition, inputs, domain))
            found["grade"].append(
                Unit("grade", cell, judge_key(made_of.judge, key), condition, (key, data[domain]), domain)
            )
    return found


def asked_data(built: Sequence[tuple[Cell, str]]) -> dict[str, str]:
    """By domain the key of the data set whose held-out questions are asked: the plain one at the largest dose.

    Where a domain has no plain one, the next in `PREFERRED`.
    """
    order = sorted(built, key=lambda unit: (PREFERRED.index(unit[0].variant), -unit[0].dose))
    found: dict[str, str] = {}
    for cell, key in order:
        found.setdefault(cell.domain, key)
    return found


def together(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    """What goes into one call, by name: a unit, or all that one cell is asked, which keeps batches full."""
    calls: dict[str, list[Unit]] = {}
    for unit in units:
        calls.setdefault(unit.cell.name if unit.stage in ("sample", "ask", "grade") else unit.name, []).append(unit)
    return calls
