"""How progress is shown: a bar on a terminal, plain lines elsewhere, JSON lines for programs, or nothing.

Every sink writes to standard error, so that standard output holds results only.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import TextIO

from spillover.progress import Event, Progress, Sink


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
