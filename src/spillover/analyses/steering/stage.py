"""steer: one model answers the questions under every intervention asked for, and is judged as it goes.

The base model answers first, in the same length and with the same seeds, and in one batch with all ablations; its
answers say how long the residual stream is at each layer, which is the unit of a coefficient, and how coherent it is.
Then the coefficients, the smallest first: all directions, random controls and layers of one are one batch. A line,
which is one direction, operation, layer and sign, ends at the coefficient whose share of coherent answers is below
`coherent` times the base model's; an ablation that leaves fewer has ended, too, and has no effect to be compared.

Of held-out questions the base model is asked those of every domain at one layer and coefficient, and what is
written is the matrix of directions by domains.

Random control r at a layer is drawn by its name, as long as a direction is, and the same for all of a model's.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from spillover.analyses.steering.units import Directions, SteerUnit, ablated_layer, layers_of
from spillover.config.study import Operation, SteerConfig, StudyConfig
from spillover.data.questions import load_questions
from spillover.data.recipe.duplicates import KnownTexts
from spillover.data.recipe.pool import heldout_questions
from spillover.directions.direction import unit as unit_vector
from spillover.directions.steering_effects import SteeredCounts
from spillover.directions.steering_matrix import matrix_cells
from spillover.errors import UserError
from spillover.execution.base import Ticker
from spillover.judges import open_judge
from spillover.models import open_backend
from spillover.models.protocols import Intervention
from spillover.provenance import seed_for
from spillover.records.base import Completion, Example, Judgment, Message
from spillover.records.steering import (
    WITHOUT_STEERING,
    Steering,
    SteeringEffect,
    SteeringMatrixCell,
    SteeringPoint,
    SteeringSample,
)
from spillover.stages.judge import judge_rows
from spillover.stages.sample import adapter_of, answer
from spillover.store.shard import Shard
from spillover.store.store import Store

Vector = NDArray[np.float32]
RANDOM = "random"
NORM_COMPLETIONS = 64  # completions without steering to general questions from which the length of the stream is read


class _Question(NamedTuple):
    """`name`: what its seeds are drawn by."""

    name: str
    question_id: str
    theme: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class _Line:
    """Interventions that differ in their coefficient alone."""

    steering: Steering  # at coefficient 0
    vector_D: Vector

    def at(self, coefficient: float) -> Steering:
        return self.steering.model_copy(update={"coefficient": coefficient})


def run(
    store: Store, config: StudyConfig, settings: SteerConfig, unit: SteerUnit, directions: Directions, ticker: Ticker
) -> None:
    """Append answers and judgments that are not there yet; write what the chosen interventions say."""
    started = time.monotonic()
    with (
        store.shard("steered", unit.answers, SteeringSample) as answers,
        store.shard("steered_judge", unit.judgments, Judgment) as judgments,
    ):
        counts = _Work(store, config, settings, unit, directions, ticker, answers, judgments).sweep()
        chosen = set(counts.steerings)
        tokens = sum(row.usage.completion_tokens for row in answers.rows if row.steering in chosen)
        answers.finish()
        judgments.finish()
    seconds = time.monotonic() - started
    if unit.heldout:
        with store.shard("steer", unit.key, SteeringMatrixCell) as matrix:
            matrix.append(*matrix_cells(counts))
            matrix.finish(tokens=tokens, seconds=seconds)
        return
    with store.shard("steer", f"effects-{unit.key}", SteeringEffect) as effects:
        effects.append(*counts.effects())
        effects.finish()
    with store.shard("steer", unit.key, SteeringPoint) as points:
        points.append(*counts.points())
        points.finish(tokens=tokens, seconds=seconds)


class _Work:
    """One model being steered."""

    def __init__(
        self,
        store: Store,
        config: StudyConfig,
        settings: SteerConfig,
        unit: SteerUnit,
        directions: Directions,
        ticker: Ticker,
        answers: Shard[SteeringSample],
        judgments: Shard[Judgment],
    ) -> None:
        self.config, self.settings, self.unit, self.directions = config, settings, unit, directions
        self.ticker, self.answers, self.judgments = ticker, answers, judgments
        self.sampling = config.sample.model_copy(update={"n": self.settings.n, "max_tokens": self.settings.max_tokens})
        self.model = next(model for model in config.models if model.name == unit.cell.model)
        self.reader = open_backend(self.model).reader()
        self.judge = open_judge(config.judge)
        self.adapter = adapter_of(store, unit.cell, [unit.trained] if unit.trained else [])
        self.questions = list(_heldout(store, config, unit) if unit.heldout else _general(config))
        self.depth = self.reader.depth
        self._cache: dict[Steering, list[SteeringSample]] = {}

    def sweep(self) -> SteeredCounts:
        """Everything that was asked for, and where its lines ended."""
        operations = self.settings.base if self.unit.cell.variant == "base" else self.settings.tuned
        lines = list(self._lines(operations))
        ablations = {line.at(1.0): self._change(line, 1.0) for line in lines if line.steering.operation == "ablate"}
        self._sample_and_judge(dict.fromkeys([WITHOUT_STEERING]) | ablations)
        tried: list[Steering] = [WITHOUT_STEERING, *ablations]
        ended = self._incoherent(ablations)
        swept = [line for line in lines if line.steering.operation != "ablate"]
        units_L = self._stream_norms({line.steering.layer or 0 for line in swept})
        over: set[tuple[Steering, bool]] = set()  # lines and signs of which no larger coefficient is tried
        for size in sorted({abs(coefficient) for coefficient in self.settings.coefficients}):
            step = {
                line.at(c): self._change(line, c * units_L[line.steering.layer or 0])
                for line in swept
                for c in self.settings.coefficients
                if abs(c) == size and (line.steering, c > 0) not in over
            }
            if not step:
                break
            self._sample_and_judge(step)
            tried += step
            for steering in self._incoherent(step):
                ended.append(steering)
                over.add((steering.model_copy(update={"coefficient": 0.0}), steering.coefficient > 0))
        return self._counts(tried, ended)

    def _incoherent(self, tried: Collection[Steering]) -> list[Steering]:
        """Those that leave too few answers coherent."""
        counts = self._counts([WITHOUT_STEERING, *tried], ())
        threshold = self.settings.coherent * counts.coherent_share(WITHOUT_STEERING)
        return [steering for steering in tried if counts.coherent_share(steering) < threshold]

    def _counts(self, tried: Sequence[Steering], ended: Sequence[Steering]) -> SteeredCounts:
        order = {row.id: n for n, row in enumerate(row for steering in tried for row in self._without_text(steering))}
        rows = sorted((row for row in self.answers.rows if row.id in order), key=lambda row: order[row.id])
        judgments = [row for row in self.judgments.rows if row.completion in order]
        return SteeredCounts(rows, judgments, self.config.rank, ended)

    def _lines(self, operations: Sequence[Operation]) -> Iterator[_Line]:
        """Every direction and control, operation and layer."""
        for operation in operations:
            swept = operation != "ablate"
            at = self.settings.at if swept else "all"
            for layer in layers_of(self.settings, self.depth) if swept else (ablated_layer(self.settings, self.depth),):
                at_layer = {domain: by_layer[layer] for domain, by_layer in self.directions.items()}
                for domain, direction in at_layer.items():
                    source, labels = direction.vector_hash, direction.origin.source
                    steering = Steering(
                        direction=domain, source=source, labels=labels, operation=operation, at=at, layer=layer
                    )
                    yield _Line(steering, direction.unit_D)
                size = len(next(iter(at_layer.values())).vector_D)
                for control in range(self.settings.controls):
                    steering = Steering(direction=RANDOM, control=control, operation=operation, at=at, layer=layer)
                    yield _Line(steering, self._random(layer, control, size))

    def _random(self, layer: int, control: int, size: int) -> Vector:
        seed = seed_for(self.config.seed, "steer", RANDOM, self.unit.cell.model, layer, control)
        return unit_vector(np.random.default_rng(seed).standard_normal(size))

    def _change(self, line: _Line, amount: float) -> Intervention:
        steering = line.steering
        assert steering.operation is not None
        assert steering.layer is not None
        layers = tuple(range(self.depth + 1)) if steering.operation == "ablate" else (steering.layer,)
        return Intervention(line.vector_D, layers, steering.operation, amount, steering.at)

    def _stream_norms(self, layers: set[int]) -> Mapping[int, float]:
        """Mean norm of the residual stream at each layer without steering: the unit of a coefficient."""
        if not layers:
            return {}
        ids = {row.id for row in self._without_text(WITHOUT_STEERING)}
        chats = [(row.messages, row.text) for row in self.answers.rows if row.id in ids]
        if not self.unit.heldout:  # else of every domain's questions, not of the first ones'
            chats = chats[:NORM_COMPLETIONS]
        order = sorted(layers)
        norms_NL = [r.norms_L for r in self.reader.read(chats, order, self.adapter, self.ticker)]
        return dict(zip(order, np.mean(np.stack([n for n in norms_NL if n is not None]), 0, float), strict=True))

    def _sample_and_judge(self, changes: Mapping[Steering, Intervention | None]) -> None:
        """Sample and judge what is not there yet, all of it in one batch."""
        unanswered = {row.id: row for steering in changes for row in self._without_text(steering)}
        amounts = {steering: change.amount if change else 0.0 for steering, change in changes.items()}
        shard = cast("Shard[Completion]", self.answers)  # whose rows are completions
        blanks = [(shard, row.model_copy(update={"amount": amounts[row.steering]})) for row in unanswered.values()]
        answer(
            self.model, self.sampling, self.adapter, blanks, self.ticker,
            lambda row: changes[cast("SteeringSample", row).steering],
        )  # fmt: skip
        answered = [row for row in self.answers.rows if row.id in unanswered]
        judge_rows(self.judge, [(row, self.judgments) for row in answered], self.ticker)

    def _without_text(self, steering: Steering) -> list[SteeringSample]:
        """The answers under one intervention, in order, without their texts; their seeds know of no intervention."""
        if steering not in self._cache:
            cell = self.unit.cell
            self._cache[steering] = [
                SteeringSample(
                    cell=cell,
                    key=self.unit.answers,
                    question_id=question.question_id,
                    theme=question.theme,
                    index=index,
                    messages=question.messages,
                    text="",
                    seed=seed_for(self.config.seed, "steer", cell.name, question.name, index),
                    steering=steering,
                )
                for question in self.questions
                for index in range(self.settings.n)
            ]
        return self._cache[steering]


def _general(config: StudyConfig) -> Iterator[_Question]:
    for question in load_questions(config.sample.questions, config.sample.forms)[: config.sample.limit]:
        yield _Question(question.id, question.question_id, question.theme, question.messages())


def _heldout(store: Store, config: StudyConfig, unit: SteerUnit) -> Iterator[_Question]:
    """What transfer asks the base model, domain by domain; a question's theme is its domain."""
    for domain, key in unit.heldout:
        if not store.is_done("build", key):
            raise UserError(f"the data set is missing. Run: spillover run STUDY.yaml --stage build --domain {domain}")
        rows = heldout_questions(store.read("build", [key], Example), KnownTexts([]), config.asked_of_each, config.seed)
        for row in rows:
            yield _Question(row.pair, row.pair, domain, row.messages[:-1])
