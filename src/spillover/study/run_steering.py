"""What steering adds to a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from spillover.config.study import RankConfig, SteerConfig
from spillover.errors import UserError
from spillover.planning.cost import StageCost
from spillover.planning.heldout_units import asked_data
from spillover.progress import Progress
from spillover.records.base import Failure
from spillover.records.directions import Directions
from spillover.records.steering import SteeringEffect, SteeringMatrixCell, SteeringPoint
from spillover.study import steering
from spillover.study.run_rows import RunRows


class SteeredRun(RunRows, ABC):
    """Rows, and what steering needs to know besides."""

    @property
    @abstractmethod
    def rank_config(self) -> RankConfig: ...

    @abstractmethod
    def directions(self) -> Directions: ...

    @abstractmethod
    def report(self) -> Any: ...

    def steer(
        self,
        wanted: SteerConfig | None = None,
        limit: int | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Failure]:
        """Put directions into the untouched model and take them out of fine-tunes, beside random ones; what failed.

        The same call goes on where it stopped.

        Args:
            wanted: what is asked for; as the study has it when None.
            limit: only the first so many questions.
            workers: processes; one a core when None.
            progress: where events go; nowhere when None.
        """
        with self.store.lock():
            failures = steering.steer(self.store, self._asked(wanted, limit), workers, progress)
            self.store.write_manifest(steering.counted(self.store, self.manifest, failures))
            self.report()
        return failures

    def plan_steering(
        self, wanted: SteerConfig | None = None, limit: int | None = None, workers: int | None = None
    ) -> StageCost:
        """What `steer` will cost at most."""
        return steering.planned(self._asked(wanted, limit), workers)

    def steering_points(self) -> tuple[SteeringPoint, ...]:
        """How models answer under every intervention that was tried."""
        return tuple(steering.points(self.store))

    def steering_effects(self) -> tuple[SteeringEffect, ...]:
        """What directions do to models, beside random ones."""
        return tuple(steering.effects(self.store, self.rank_config.confidence))

    def steering_squares(self) -> tuple[SteeringMatrixCell, ...]:
        """How the untouched model, steered with one domain's direction, answers held-out questions of another's."""
        return tuple(steering.squares(self.store))

    def _asked(self, wanted: SteerConfig | None, limit: int | None) -> steering.Asked:
        if self.config is None:
            raise UserError(f"{self.path} holds imported answers. Steering needs the models of a study.")
        trained = [(unit.cell, unit.key) for unit in self.plan["train"] if self.store.is_done("train", unit.key)]
        built = [(unit.cell, unit.key) for unit in self.plan["build"] if self.store.is_done("build", unit.key)]
        known = self.directions().summaries
        return steering.ask(self.store, self.config, wanted, limit, trained, known, asked_data(built))
