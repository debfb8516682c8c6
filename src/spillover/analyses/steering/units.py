"""Who is steered with what: the base models and the plain fine-tunes, each with every direction of its base model.

A model's steered answers lie in one shard whatever is asked of it, so that another direction, layer or coefficient adds
rows and a smaller choice reads them; a unit's own shard holds what the chosen ones say. A direction is named by the
hash of its numbers, because it is computed from judgments and changes with them.

The base model may also be asked what transfer asks, the held-out questions of every domain: one more unit, with
one layer, one coefficient, and shards of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spillover.config.study import SteerConfig, StudyConfig
from spillover.data.questions import load_questions
from spillover.directions.direction import Direction
from spillover.errors import UserError
from spillover.planning.units import judge_key, weights
from spillover.records.base import Cell, content_hash
from spillover.registry import did_you_mean

VERSION = 1  # of the answers
RESULTS_VERSION = 2  # of what is computed from them
ALL = ("all",)
Directions = Mapping[str, Mapping[int, Direction]]
"""By domain and layer."""


@dataclass(frozen=True)
class SteerUnit:
    """`trained`: key of the adapter's shard, "" for the base model; `answers`, `judgments`: of the shared ones.

    `heldout`: domains and keys of the data sets whose held-out questions are asked; none: the general questions are.
    """

    cell: Cell
    key: str
    trained: str
    answers: str
    judgments: str
    heldout: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.cell.name}/heldout" if self.heldout else self.cell.name


def steered_cells(settings: SteerConfig, model: str, trained: Sequence[tuple[Cell, str]]) -> Iterator[tuple[Cell, str]]:
    """The base model and one plain fine-tune a domain, of the largest dose and the first seed, and their keys.

    Raises:
        UserError: for one that is not there.
    """
    plain = first_plain(trained, model)
    reject_unknown("onto", settings.onto, ["base", *plain])
    if settings.onto == ALL or "base" in settings.onto:
        yield Cell(model=model, domain="none", variant="base", dose=0.0), ""
    for domain, (cell, key) in plain.items():
        if settings.onto == ALL or domain in settings.onto:
            yield cell, key


def first_plain(cells: Sequence[tuple[Cell, str]], model: str) -> dict[str, tuple[Cell, str]]:
    """By domain the plain cell of the largest dose and the first seed."""
    found: dict[str, tuple[Cell, str]] = {}
    for cell, key in cells:
        if cell.model == model and cell.variant == "plain":
            known = found.get(cell.domain)
            if known is None or cell.dose > known[0].dose:
                found[cell.domain] = cell, key
    return found


def reject_unknown(what: str, names: tuple[str, ...], known: Sequence[str]) -> None:
    """Refuse a name that is not there."""
    for name in names if names != ALL else ():
        if name not in known:
            raise UserError(f"steer.{what}: unknown name {name!r}{did_you_mean(name, list(known))}")


def steer_unit(
    config: StudyConfig, settings: SteerConfig, cell: Cell, trained: str, judge: str, directions: Directions
) -> SteerUnit:
    """The unit of one model; `judge`: the judge's identity."""
    model = next(model for model in config.models if model.name == cell.model)
    shape = config.sample.model_dump(mode="json", include={"temperature", "top_p"})
    who = [weights(model), cell.model_dump(mode="json"), trained]
    answers = content_hash(["steer", VERSION, config.seed, shape, settings.max_tokens, who], length=16)
    judgments = judge_key(judge, answers)
    questions = [q.id for q in load_questions(config.sample.questions, config.sample.forms)[: config.sample.limit]]
    names = [[domain, layer, d.vector_hash] for domain, found in directions.items() for layer, d in found.items()]
    content = ["steer", RESULTS_VERSION, general_settings(settings), config.rank.hash(), judgments, questions, names]
    return SteerUnit(cell, content_hash(content, length=16), trained, answers, judgments)


def general_settings(settings: SteerConfig) -> dict[str, Any]:
    """What is asked for where the general questions are."""
    return settings.model_dump(mode="json", exclude={"asked", "heldout_layer", "heldout_coefficient"})


def heldout_settings(config: StudyConfig, settings: SteerConfig, depth: int) -> SteerConfig:
    """What is asked for where held-out questions are: one layer, one coefficient, answers shaped as those of transfer.

    Raises:
        UserError: where the study has no section transfer.
    """
    if config.transfer is None:
        raise UserError("steer.asked: heldout needs the section transfer. Add 'transfer: {}' to the study and run it.")
    layer = layers_of(settings, depth)[-1] if settings.heldout_layer is None else settings.heldout_layer
    return SteerConfig(
        **settings.model_dump(include={"directions", "method", "labels", "at", "controls", "coherent"}),
        onto=("base",),
        layers=(layer,),
        coefficients=(settings.heldout_coefficient,),
        n=config.transfer.n,
        max_tokens=config.transfer.max_tokens or config.sample.max_tokens,
    )


def heldout_unit(
    config: StudyConfig, settings: SteerConfig, model: str, data: Mapping[str, str], judge: str, directions: Directions
) -> SteerUnit:
    """The base model's unit; `settings`: of `heldout_settings`; `data`: by domain the key of the data set."""
    of = next(each for each in config.models if each.name == model)
    cell = Cell(model=model, domain="none", variant="base", dose=0.0)
    shape = config.sample.model_dump(mode="json", include={"temperature", "top_p"})
    answers = content_hash(["heldout", VERSION, config.seed, shape, settings.max_tokens, weights(of)], length=16)
    judgments, asked = judge_key(judge, answers), tuple(sorted(data.items()))
    names = [[domain, layer, d.vector_hash] for domain, found in directions.items() for layer, d in found.items()]
    general, rank = general_settings(settings), config.rank.hash()
    content = ["heldout", RESULTS_VERSION, general, rank, judgments, config.asked_of_each, asked, names]
    return SteerUnit(cell, content_hash(content, length=16), "", answers, judgments, asked)


def layers_of(settings: SteerConfig, depth: int) -> tuple[int, ...]:
    """After which blocks add and clamp change the stream."""
    return settings.layers or tuple(sorted({max(1, round(depth * part)) for part in (2 / 5, 3 / 5)}))


def ablated_layer(settings: SteerConfig, depth: int) -> int:
    """The layer whose direction is projected out."""
    return layers_of(settings, depth)[-1] if settings.ablated is None else settings.ablated
