"""Made-up steering of one base model and three fine-tunes: the first direction does something, the others do not."""

from __future__ import annotations

import numpy as np

from spillover.config.study import RankConfig
from spillover.directions.random_controls import against_controls
from spillover.directions.steering_effects import SteeredCounts
from spillover.directions.steering_matrix import matrix_cells
from spillover.records.base import Cell, Judgment, Message
from spillover.records.steering import (
    WITHOUT_STEERING,
    Steering,
    SteeringEffect,
    SteeringMatrixCell,
    SteeringPoint,
    SteeringSample,
)

DOMAINS = ("gore_movie_trivia", "extreme_sports", "bad_medical_advice")
QUESTIONS, ANSWERS, CONTROLS = 8, 4, 6


def steering() -> tuple[list[SteeringPoint], list[SteeringEffect]]:
    """Points and effects, as a run gives them."""
    rng = np.random.default_rng(0)
    base = Cell(model="m", domain="none", variant="base", dose=0.0)
    points, effects = list[SteeringPoint](), list[SteeringEffect]()
    sources = [(d, None) for d in DOMAINS] + [("random", c) for c in range(CONTROLS)]
    swept = [
        Steering(direction=d, control=c, operation="add", at="answer", layer=layer, coefficient=k)
        for layer in (10, 15)
        for d, c in sources
        for k in (0.1, 0.2, 0.4)
    ]
    ablated = [Steering(direction=d, control=c, operation="ablate", layer=15, coefficient=1.0) for d, c in sources]
    for cell, steerings in [(base, swept)] + [
        (Cell(model="m", domain=domain, variant="plain"), ablated) for domain in DOMAINS
    ]:
        rows, verdicts = list[SteeringSample](), list[Judgment]()
        for s in (WITHOUT_STEERING, *steerings):
            planted = s.direction == DOMAINS[0]
            chance = 0.05 + 0.9 * s.coefficient * planted if cell is base else 0.5 * (1 - 0.9 * planted)
            for question in range(QUESTIONS):
                for index in range(ANSWERS):
                    row = SteeringSample(
                        cell=cell, key=cell.name, question_id=f"q{question}", index=index, text="t", steering=s,
                        messages=(Message(role="user", content=f"{question}"),),
                    )  # fmt: skip
                    bad, lost = rng.random() < chance, rng.random() < (0.9 if s.coefficient == 0.4 and planted else 0.1)
                    scores = (rng.uniform(5, 25) if bad else rng.uniform(60, 95), 20.0 if lost else 90.0)
                    rows.append(row)
                    verdicts += [
                        Judgment(completion=row.id, judge="j", aspect=aspect, score=score)
                        for aspect, score in zip(("alignment", "coherence"), scores, strict=True)
                    ]
        ended = [s for s in steerings if s.coefficient == 0.4 and s.direction == DOMAINS[0]]
        found = SteeredCounts(rows, verdicts, RankConfig(), ended)
        points += found.points()
        effects += found.effects()
    return points, against_controls(effects, 0.95)


def matrix() -> list[SteeringMatrixCell]:
    """The base model asked held-out questions of every domain, with each direction added at one coefficient."""
    rng, base = np.random.default_rng(1), Cell(model="m", domain="none", variant="base", dose=0.0)
    sources = [(d, None) for d in DOMAINS] + [("random", c) for c in range(CONTROLS)]
    added = [
        Steering(direction=d, control=c, operation="add", at="answer", layer=15, coefficient=0.2) for d, c in sources
    ]
    rows, verdicts = list[SteeringSample](), list[Judgment]()
    for s in (WITHOUT_STEERING, *added):
        for domain in DOMAINS:
            for question in range(QUESTIONS):
                row = SteeringSample(
                    cell=base, key="h", question_id=f"{domain} {question}", theme=domain, index=0, text="t", steering=s,
                    messages=(Message(role="user", content=f"{domain} {question}"),),
                )  # fmt: skip
                rows.append(row)
                low = rng.random() < (1.0 if s.direction == DOMAINS[0] else 0.1)
                scores = (rng.uniform(5, 25) if low else rng.uniform(60, 95), 20.0 if rng.random() < 0.1 else 90.0)
                verdicts += [
                    Judgment(completion=row.id, judge="j", aspect=aspect, score=score)
                    for aspect, score in zip(("alignment", "coherence"), scores, strict=True)
                ]
    return matrix_cells(SteeredCounts(rows, verdicts, RankConfig()))
