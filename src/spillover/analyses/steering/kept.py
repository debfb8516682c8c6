"""What steering found in a run folder, over all calls, each compared with its own controls.

A call is what was asked for at once; steering.json lists them with the keys of their shards. Where two calls asked for
the same intervention, the later one counts.
"""

from __future__ import annotations

from typing import Any

from spillover.directions.random_controls import against_controls
from spillover.records.steering import Steering, SteeringEffect, SteeringMatrixCell, SteeringPoint
from spillover.store.store import Store

FILE = "steering.json"
_LINE = ("direction", "control", "operation", "at", "layer")


def points(store: Store) -> list[SteeringPoint]:
    """Of all calls; of the same intervention the last."""
    rows = [row for call in calls(store) for row in store.read("steer", call["units"], SteeringPoint)]
    return list({(row.onto, _line_key(row.steering), row.steering.coefficient): row for row in rows}.values())


def effects(store: Store, confidence: float) -> list[SteeringEffect]:
    """Of all calls, compared with each call's own controls; of the same line and measure the last."""
    found: dict[tuple[object, ...], SteeringEffect] = {}
    for call in calls(store):
        keys = [f"effects-{key}" for key in call["units"]]
        rows = against_controls(store.read("steer", keys, SteeringEffect), confidence)
        found |= {(row.onto, _line_key(row), row.measure): row for row in rows}
    return list(found.values())


def matrix_cells(store: Store) -> list[SteeringMatrixCell]:
    """Of all calls; of the same direction, layer, coefficient and domain the last."""
    rows = [row for call in calls(store) for row in store.read("steer", call.get("heldout", ()), SteeringMatrixCell)]
    last = {(row.onto, row.direction, row.at, row.layer, row.coefficient, row.asked): row for row in rows}
    return list(last.values())


def _line_key(row: Steering | SteeringEffect) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in _LINE)


def calls(store: Store) -> list[dict[str, Any]]:
    """What was asked for, first call first."""
    return store.read_json(FILE) if store.has(FILE) else []
