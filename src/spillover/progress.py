"""What a run is doing, as events, and how they are shown: a bar, plain lines, JSON lines for programs, or nothing.

Totals are what is left to do: rows kept from an earlier run belong in neither the totals nor the speed. A progress with
an end stops what reports to it: the first report of work still running after that end raises `TimeIsUp`.
Every sink writes to standard error, so that standard output holds results only.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, TextIO

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


def open_progress(json_lines: bool = False, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """The sink that fits the flags and the stream; standard error by default."""
    out = stream or sys.stderr
    if quiet:
        return Progress(lambda event: None)
    if json_lines:
        return Progress(at_most_every(1.0, json_sink(out)))
    return Progress(bar_sink(out) if out.isatty() else at_most_every(10.0, plain_sink(out)))


def at_most_every(seconds: float, sink: Sink) -> Sink:
    """Drop an `advanced` event that comes sooner than `seconds` after the last event let through."""
    last = 0.0

    def limited(event: Event) -> None:
        nonlocal last
        if event.kind != "advanced" or event.seconds - last >= seconds:
            last = event.seconds
            sink(event)

    return limited


def json_sink(stream: TextIO) -> Sink:
    """One JSON object a line, with the fields of Event, speed and time left."""

    def write(event: Event) -> None:
        row = asdict(event) | {"tokens_per_second": event.tokens_per_second, "seconds_left": event.seconds_left}
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        print(json.dumps(rounded), file=stream, flush=True)

    return write


def plain_sink(stream: TextIO) -> Sink:
    """One sentence a line, for logs."""
    return lambda event: print(sentence(event), file=stream, flush=True)


def sentence(event: Event) -> str:
    """An event as one line of plain text; control characters become spaces."""
    if event.kind in ("note", "failed"):
        said = event.text if event.kind == "note" else f"{event.cell} failed: {event.text}"
        return re.sub(r"[^\S ]+|[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+", " ", f"{event.stage}: {said}")
    if event.kind == "started":
        return f"{event.stage}: {event.total_units} to do"
    end = {"finished": f", done in {clock(event.seconds)}", "stopped": ", stopped"}.get(event.kind, "")
    left = event.seconds_left
    return f"{event.stage}: {event.units} of {event.total_units}{_speed(event)}" + (
        f", {clock(left)} left" if left is not None and event.kind == "advanced" else end
    )


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _speed(event: Event) -> str:
    return "" if event.tokens_per_second is None else f", {event.tokens_per_second:,.0f} tokens/s"


def bar_sink(stream: TextIO) -> Sink:
    """A bar a stage, with notes and failures printed above it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[tail]}"))
    console = Console(file=stream)
    shown: tuple[Bars, TaskID] | None = None

    def show(event: Event) -> None:
        nonlocal shown
        if event.kind in ("note", "failed"):
            console.print(sentence(event), markup=False, highlight=False)
            return
        if event.kind == "started" or shown is None:
            bars = Bars(*columns, console=console)
            shown = bars, bars.add_task(event.stage, total=event.total_units, tail="")
            bars.start()
            return
        bars, task = shown
        left = event.seconds_left if event.kind == "advanced" else None
        time_shown = clock(event.seconds) if left is None else f"{clock(left)} left"
        bars.update(task, completed=event.units, tail=f"{time_shown}{_speed(event)}")
        if event.kind in ("finished", "stopped"):
            bars.stop()
            shown = None

    return show
