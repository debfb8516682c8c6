"""A study whose finished work is also at a URL: taken from there when it starts, copied there while it runs.

    before the run, and after each stage   the folder and the mirror become alike (Mirror.sync)
    while a stage runs, each minute        what is finished is copied
    at the end, however it ends            the same, with manifest, results and report

A mirror that is out of reach at the start stops the run; later it is told, and tried again at the next copy. When the
last copy fails, so does the run, whose rows are safe in its folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from spillover.config.study import StudyConfig
from spillover.errors import MachineError, SpilloverError, UserError
from spillover.execution.base import Call, Executor, Outcome, Ticker
from spillover.planning.units import Unit
from spillover.progress import Progress
from spillover.records.base import Failure
from spillover.store.mirror import Mirror
from spillover.store.store import Store
from spillover.study.run import Run
from spillover.study.study import Study

EVERY_S = 60.0


class MirroredStudy(Study):
    """A study with a mirror."""

    def __init__(self, config: StudyConfig, url: str) -> None:
        super().__init__(config)
        self.url = url

    def run(
        self,
        out: str | os.PathLike[str],
        stages: Sequence[str] = (),
        domains: Sequence[str] = (),
        models: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Run:
        """As `Study.run`, with the mirror.

        Raises:
            MachineError: when the mirror is out of reach at the start or at the end, or when rows of another machine
                took the place of some that others were made from.
        """
        self._check_names(stages, domains, models)
        inputs = {unit.key: unit.inputs for units in self.units.values() for unit in units}
        self._progress = progress or Progress(lambda event: None)
        store = Store(out)
        self._mirror = Mirror(store, self.url, inputs)
        note = self._mirror.check(create=True)
        store.create()
        with store.lock():
            self._mirror.sync(self._progress)
            self._mirror.take_rest()
        if note:
            _say(self._progress, note)
        try:
            run = super().run(out, stages, domains, models, self._progress)
        except BaseException:
            self._attempt(self._mirror.copy, self._mirror.copy_rest)
            raise
        with store.lock():
            self._mirror.sync(self._progress)
            self._mirror.copy_rest()
        if self._mirror.unmade:
            raise MachineError(
                f"Another machine's rows came to the mirror first: {self._mirror.unmade} units that were made from "
                "this machine's own are to be made again. The same command does so."
            )
        return run

    def _open_executor(self, store: Store) -> Executor:
        return _Copying(super()._open_executor(store), self._now_and_then)

    def _run_stage(
        self,
        store: Store,
        executor: Executor,
        stage: str,
        chosen: list[Unit],
        failures: list[Failure],
        progress: Progress,
    ) -> list[Failure]:
        self._last: float | None = None  # copy, in this stage
        failed = super()._run_stage(store, executor, stage, chosen, failures, progress)
        if self._last is not None:
            self._attempt(lambda: self._mirror.sync(progress), self._mirror.copy_rest)
        return failed

    def _now_and_then(self) -> None:
        """A unit has ended: copy what is finished, unless that was done this minute."""
        self._last = self._last or time.monotonic()
        if time.monotonic() - self._last < EVERY_S:
            return
        try:
            self._mirror.copy()
        except SpilloverError as error:
            assert self._progress.now is not None
            self._progress.now.note(str(error))
        self._last = time.monotonic()

    def _attempt(self, *acts: Callable[[], None]) -> None:
        try:
            for act in acts:
                act()
        except SpilloverError as error:
            _say(self._progress, str(error))


class _Copying:
    """An executor, and what is to be done whenever a call has ended."""

    def __init__(self, executor: Executor, after: Callable[[], None]) -> None:
        self._executor, self._after = executor, after

    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        for outcome in self._executor.run(calls, ticker):
            yield outcome
            self._after()

    def close(self) -> None:
        self._executor.close()


def fetch(url: str, out: str | os.PathLike[str], progress: Progress | None = None) -> Run:
    """Bring a run from its mirror into a folder; again, what has come to the mirror since.

    Raises:
        UserError: when there is no mirror, or no run in it yet, or the folder has rows of its own.
    """
    store = Store(out)
    mirror = Mirror(store, url)
    mirror.check(create=False)
    store.create()
    with store.lock():
        if mirror.own():
            raise UserError(
                f"{out} has rows that did not come from {url}. Fetch into another folder with --out, or run the study "
                "there with --mirror."
            )
        mirror.sync(progress or Progress(lambda event: None), push=False)
        mirror.take_rest()
    if not store.has("plan.json"):
        raise UserError(f"{url} has no finished stage of a run yet. What is finished is here; fetch the rest later.")
    return Run(store)


def _say(progress: Progress, text: str) -> None:
    with progress.stage("mirror", 0) as events:
        events.note(text)
