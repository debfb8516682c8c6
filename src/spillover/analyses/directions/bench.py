"""What all tables of one sheet and one reader share: the cells with enough answers, their permuted labels, the layers.

Tables are made at one layer, fixed in advance by `directions.depth`; the mean difference, which everything is about,
has profiles over all layers too, and nulls. Other methods are next to it with intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from spillover.analyses.directions.sheet import Labelled, Sheet
from spillover.config.study import DirectionsConfig
from spillover.directions import METHODS, PRIMARY, SHIFT
from spillover.directions.certainty import permuted_labels
from spillover.directions.direction import Direction
from spillover.directions.methods import Answers, Method, tuned_minus_base
from spillover.directions.separation import Side, side
from spillover.provenance import seed_for
from spillover.records.directions import Reader
from spillover.stats import Bools, Floats


@dataclass(frozen=True)
class Setting:
    """What all tables of a run share. `write` puts directions into the run folder and says where."""

    config: DirectionsConfig
    confidence: float
    seed: int
    study: str
    judge: str
    write: Callable[[list[Direction]], str]

    @property
    def tail(self) -> tuple[float, float]:
        """Percentiles of a central interval."""
        return 50 * (1 - self.confidence), 50 * (1 + self.confidence)

    def rng(self, *names: str | int) -> np.random.Generator:
        """The generator of a named choice."""
        return np.random.default_rng(seed_for(self.seed, "direct", *names))

    @cached_property
    def methods(self) -> dict[str, Method]:
        """Methods with labels, the mean difference first."""
        asked = METHODS.names() if self.config.methods == ("all",) else list(self.config.methods)
        return {name: METHODS.load(name) for name in dict.fromkeys([PRIMARY, *asked]) if name != SHIFT}

    @property
    def shifts(self) -> bool:
        """Whether what fine-tuning added is asked for too."""
        return self.config.methods == ("all",) or SHIFT in self.config.methods


@dataclass(frozen=True)
class Bench:
    """One sheet, one reader."""

    sheet: Sheet
    reader: Reader
    setting: Setting

    @cached_property
    def cells(self) -> list[Labelled]:
        """Those with enough questions."""
        return [cell for cell in self.sheet.cells if cell.enough]

    @cached_property
    def sides(self) -> list[Side]:
        """Their labels, true and permuted."""
        found: list[Side] = []
        for cell in self.cells:
            rng = self.setting.rng("labels", self.sheet.source, cell.cell.name)
            permuted_PN = permuted_labels(cell.answers, self.setting.config.permutations, rng)
            found.append(side(cell.answers, self.sheet.theme_X[cell.answers.asked_Q], permuted_PN))
        return found

    @property
    def layers(self) -> list[int]:
        return self.sheet.cells[0].states.layers

    @cached_property
    def place(self) -> int:
        """Where in `layers` the table's is: the one nearest to the wanted share of the model's depth."""
        wanted = self.setting.config.depth * self.sheet.cells[0].states.depth
        return min(range(len(self.layers)), key=lambda i: (abs(self.layers[i] - wanted), self.layers[i]))

    @property
    def layer(self) -> int:
        return self.layers[self.place]

    @property
    def named(self) -> dict[str, Any]:
        """Fields that all records of this bench have."""
        judge = self.setting.judge if self.sheet.source == "judged" else ""
        return {"source": self.sheet.source, "reader": self.reader, "judge": judge}

    @property
    def recipe(self) -> dict[str, Any]:
        """What the cells have in common."""
        cell = self.sheet.cells[0].cell
        return {"model": cell.model, "variant": cell.variant, "dose": cell.dose, "seed": cell.seed}

    @cached_property
    def at_table(self) -> list[Answers]:
        """The labelled answers at the table's layer."""
        return [cell.at(self.reader, self.place) for cell in self.cells]

    def shifted(self, cell: Labelled, place: int, kept_N: Bools | slice = slice(None)) -> Floats:
        """What fine-tuning added to the cell's texts, or to some of them, at one layer."""
        rows_N = cell.read_N[kept_N]
        tuned_ND, base_ND = cell.states.at("tuned", place)[rows_N], cell.states.at("base", place)[rows_N]
        return tuned_minus_base(tuned_ND[:, None], base_ND[:, None], cell.asked_N[kept_N])[0]
