"""Interventions inside a decoding batch, where each row has its own intervention or none.

Every operation is one rank-one change of the stream x along the row's unit vector u, at the row's layers and positions:

    x' = x + (a + b x.u) u      add: a = amount, b = 0    ablate: a = 0, b = -amount    clamp: a = amount, b = -1

A row without an intervention has a = b = 0, which leaves x unchanged to the last bit. The sum is computed in float32
and rounded to the model's precision once.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from spillover.errors import UserError
from spillover.models.hf.hooks import Blocks
from spillover.models.protocols import Intervention

_END = 2**62  # beyond every position

Row = tuple[Intervention | None, int]
"""A row's intervention and the length of its prompt."""


def prompt_change(intervention: Intervention | None, depth: int) -> Hashable:
    """What an intervention does to the keys of a prompt: equal values give equal keys, None leaves them unchanged."""
    if intervention is None or intervention.at == "answer" or min(intervention.layers) >= depth:
        return None
    return intervention.vector_D.tobytes(), intervention.layers, intervention.operation, intervention.amount


class Interventions:
    """The interventions of a set of completions, as tables on the model's device; entry 0 of K is none."""

    def __init__(self, blocks: Blocks, wanted: Sequence[Intervention | None], model: str, device: torch.device) -> None:
        self.blocks = blocks
        self._distinct = {id(one): one for one in wanted if one is not None}
        self._entry = {key: entry for entry, key in enumerate(self._distinct, start=1)}
        vectors_KD = np.zeros((len(self._distinct) + 1, blocks.width), np.float32)
        terms_2LK = np.zeros((2, blocks.depth + 1, len(self._distinct) + 1), np.float32)
        for entry, one in enumerate(self._distinct.values(), start=1):
            _check(one, blocks, model)
            vectors_KD[entry] = one.vector_D
            terms_2LK[:, list(one.layers), entry] = np.array(_terms(one))[:, None]
        self._vectors_KD = torch.from_numpy(vectors_KD).to(device)
        self._terms_2LK = torch.from_numpy(terms_2LK).to(device)

    @contextmanager
    def applied(self, rows: Sequence[Row], positions_BQ: Tensor) -> Generator[None]:
        """Change the stream of these rows at these positions inside the block; no hook without an intervention."""
        layers = sorted({layer for one, _ in rows if one is not None for layer in one.layers})
        if not layers:
            yield
            return
        entry_B = torch.tensor([0 if one is None else self._entry[id(one)] for one, _ in rows]).to(positions_BQ.device)
        bounds_2B1 = torch.tensor([_bounds(*row) for row in rows]).to(positions_BQ.device).T[..., None]
        inside_BQ = (bounds_2B1[0] <= positions_BQ) & (positions_BQ < bounds_2B1[1])
        vectors_BD, terms_2LB = self._vectors_KD[entry_B], self._terms_2LK[..., entry_B]

        def change(layer: int, states_BQD: Tensor) -> Tensor:
            exact = torch.promote_types(states_BQD.dtype, torch.float32)
            x_BQD, u_BD = states_BQD.to(exact), vectors_BD.to(exact)
            a_B1, b_B1 = terms_2LB[:, layer, :, None].to(exact)
            step_BQ = (a_B1 + b_B1 * torch.einsum("bqd,bd->bq", x_BQD, u_BD)) * inside_BQ
            return (x_BQD + step_BQ[..., None] * u_BD[:, None]).to(states_BQD.dtype)

        with self.blocks.visited(layers, change):
            yield


def _terms(one: Intervention) -> tuple[float, float]:
    """The constants a and b."""
    if one.operation == "add":
        return one.amount, 0.0
    return (0.0, -one.amount) if one.operation == "ablate" else (one.amount, -1.0)


def _bounds(one: Intervention | None, prompt_tokens: int) -> tuple[int, int]:
    """The half-open range of positions that are changed."""
    if one is None:
        return 0, 0
    return (prompt_tokens if one.at == "answer" else 0), (prompt_tokens if one.at == "prompt" else _END)


def _check(one: Intervention, blocks: Blocks, model: str) -> None:
    if one.vector_D.shape != (blocks.width,):
        raise UserError(
            f"A direction of shape {one.vector_D.shape} does not fit {model}, whose stream has {blocks.width} numbers. "
            "Steer the model that the direction was computed from."
        )
    if not one.layers:
        raise UserError("An intervention has no layers. Give at least one.")
    blocks.check_layers(one.layers, model)
