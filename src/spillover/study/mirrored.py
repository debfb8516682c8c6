"""A study with a copy of its finished shards at a URL (store/mirror.py).

Before the run, the folder takes what the mirror has. While units end, every minute, and when the run ends, however it
ends, the mirror takes what the folder has. A mirror that is out of reach at the start or at the end is an error, in
between a note. Rows that differ from the mirror's end the run at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from spillover.config.study import StudyConfig
from spillover.errors import MachineError, SpilloverError
from spillover.execution.base import Call, Executor, Outcome, Ticker
from spillover.progress import Progress
from spillover.store.mirror import Conflict, Mirror
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
            Conflict: when the mirror holds other rows under the key of a shard of this folder.
            MachineError: when the mirror is out of reach at the start or at the end.
        """
        self._check_names(stages, domains, models)
        self._plan_of_units()  # finds what is wrong with the study before there is a mirror
        self._progress = progress or Progress(lambda event: None)
        store = Store(out)
        self._mirror = Mirror(store, self.url)
        warning = self._mirror.open(create=True)
        store.create()
        with store.lock():
            self._mirror.pull(self._progress)
            self._mirror.pull_rest()
        if warning:
            self._note(warning)
        try:
            run = super().run(out, stages, domains, models, self._progress)
        except Conflict:
            raise
        except BaseException:
            try:
                self._copy()
            except SpilloverError as error:
                self._note(str(error))
            raise
        self._copy()
        return run

    def _copy(self) -> None:
        self._mirror.push(self._progress)
        self._mirror.push_rest()

    def _open_executor(self, store: Store) -> Executor:
        return _Copying(super()._open_executor(store), self._mirror, self._progress)

    def _note(self, text: str) -> None:
        with self._progress.stage("mirror", 0) as events:
            events.note(text)


class _Copying:
    """An executor that copies finished shards each minute, after a call has ended."""

    def __init__(self, executor: Executor, mirror: Mirror, progress: Progress) -> None:
        self._executor, self._mirror, self._progress = executor, mirror, progress
        self._next = time.monotonic() + EVERY_S

    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        for outcome in self._executor.run(calls, ticker):
            yield outcome
            if time.monotonic() >= self._next:
                self._copy()

    def close(self) -> None:
        self._executor.close()

    def _copy(self) -> None:
        try:
            self._mirror.push()
        except MachineError as error:
            assert self._progress.now is not None
            self._progress.now.note(str(error))
        self._next = time.monotonic() + EVERY_S
