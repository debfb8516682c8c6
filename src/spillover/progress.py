"""What a run is doing, as events; `progress_sinks` shows them.

Totals are what is left to do: rows kept from an earlier run belong in neither the totals nor the speed. A progress with
an end stops what reports to it: the first report of work still running after that end raises `TimeIsUp`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from spillover.errors import TimeIsUp

EventKind = Literal["started", "advanced", "note", "failed", "finished", "stopped"]


@dataclass(frozen=True)
class Event:
    """The state of one stage when something happened; `stopped` is a stage left by an exception."""

    kind: EventKind
    stage: str
    units: int
    total_units: int
    tokens: int
    total_tokens: int | None
    seconds: float
    cell: str = ""
    text: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        done, total = (self.units, self.total_units) if self.total_tokens is None else (self.tokens, self.total_tokens)
        return self.seconds * max(total - done, 0) / done if done else None


Sink = Callable[[Event], None]


class StageProgress:
    """One running stage; the executor calls `advance` from a single thread."""

    def __init__(
        self, sink: Sink, clock: Callable[[], float], end: float, name: str, total_units: int, total_tokens: int | None
    ) -> None:
        self._sink, self._clock, self._start, self._end = sink, clock, clock(), end
        self._name, self._total_units, self._total_tokens = name, total_units, total_tokens
        self._units = self._tokens = 0

    def advance(self, units: int = 0, tokens: int = 0) -> None:
        """Count finished units and tokens; with neither, only look at the clock.

        Raises:
            TimeIsUp: after the end, but never for a unit that is finished.
        """
        if not units and self._clock() >= self._end:
            raise TimeIsUp
        if not units and not tokens:
            return
        self._units += units
        self._tokens += tokens
        self.emit("advanced")

    def note(self, text: str) -> None:
        """Say something that a person should see."""
        self.emit("note", text=text)

    def failed(self, cell: str, error: str) -> None:
        """Say that a cell failed; the stage continues with the others."""
        self.emit("failed", cell=cell, text=error)

    def emit(self, kind: EventKind, cell: str = "", text: str = "") -> None:
        """Send the present state to the sink."""
        seconds = self._clock() - self._start
        counts = (self._units, self._total_units, self._tokens, self._total_tokens)
        self._sink(Event(kind, self._name, *counts, seconds, cell, text))


class Progress:
    """Turns what the stages report into events for one sink."""

    def __init__(self, sink: Sink, clock: Callable[[], float] = time.monotonic, end: float = math.inf) -> None:
        self._sink, self._clock, self._end = sink, clock, end
        self.now: StageProgress | None = None  # the stage that is running

    def until(self, end: float) -> Progress:
        """The same, with an end by the same clock, in seconds."""
        return Progress(self._sink, self._clock, end)

    def note(self, name: str, text: str) -> None:
        """Report something between stages."""
        StageProgress(self._sink, self._clock, self._end, name, 0, None).note(text)

    @contextmanager
    def stage(self, name: str, total_units: int, total_tokens: int | None = None) -> Generator[StageProgress]:
        """Announce a stage, and its end however it ends."""
        stage = self.now = StageProgress(self._sink, self._clock, self._end, name, total_units, total_tokens)
        stage.emit("started")
        try:
            yield stage
        except BaseException:
            stage.emit("stopped")
            raise
        stage.emit("finished")
