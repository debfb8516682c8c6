"""The same events reach every sink; a log gets few lines, a program gets JSON, and hostile text stays on its line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
from collections.abc import Callable
from itertools import pairwise
from typing import TextIO

import pytest

from spillover.progress import Event, Progress, Sink, at_most_every, json_sink, open_progress, plain_sink


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run_stage(progress: Progress, clock: Clock, steps: int = 4) -> None:
    with progress.stage("train", total_units=steps, total_tokens=400) as stage:
        for _ in range(steps):
            clock.now += 5.0
            stage.advance(units=1, tokens=100)


def test_events_carry_counts_speed_and_time_left() -> None:
    clock, events = Clock(), list[Event]()
    run_stage(Progress(events.append, clock), clock)
    assert [event.kind for event in events] == ["started", *["advanced"] * 4, "finished"]
    first = events[1]
    assert (first.units, first.tokens, first.seconds) == (1, 100, 5.0)
    assert first.tokens_per_second == pytest.approx(20.0)
    assert first.seconds_left == pytest.approx(15.0)
    assert events[0].seconds_left is None
    assert events[-1].seconds_left == 0.0


def test_time_left_goes_by_units_where_tokens_are_unknown() -> None:
    event = Event("advanced", "judge", units=2, total_units=10, tokens=50, total_tokens=None, seconds=4.0)
    assert event.seconds_left == pytest.approx(16.0)


def test_an_exception_ends_the_stage_as_stopped_and_goes_on() -> None:
    events = list[Event]()

    def interrupted() -> None:
        with Progress(events.append).stage("sample", 3) as stage:
            stage.advance(units=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [event.kind for event in events] == ["started", "advanced", "stopped"]


def test_advances_are_thinned_and_nothing_else_is() -> None:
    clock, kept = Clock(), list[Event]()
    progress = Progress(at_most_every(10.0, kept.append), clock)
    for _ in range(2):
        with progress.stage("train", 100) as stage:
            for step in range(100):
                clock.now += 1.0
                stage.advance(units=1)
                if step == 50:
                    stage.failed("m/x/plain/seed-0", "boom")
    kinds = [event.kind for event in kept]
    assert kinds.count("started") == kinds.count("finished") == kinds.count("failed") == 2
    gaps = [b.seconds - a.seconds for a, b in pairwise(kept) if b.kind == "advanced"]
    assert min(gaps) >= 10.0
    assert 16 <= len(gaps) <= 20


def test_json_lines_are_whole_objects() -> None:
    clock, stream = Clock(), io.StringIO()
    run_stage(Progress(json_sink(stream), clock), clock)
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert rows[2] == {
        "kind": "advanced", "stage": "train", "units": 2, "total_units": 4, "tokens": 200, "total_tokens": 400,
        "seconds": 10.0, "cell": "", "text": "", "tokens_per_second": 20.0, "seconds_left": 10.0,
    }  # fmt: skip


def test_plain_lines_read_as_sentences() -> None:
    clock, stream = Clock(), io.StringIO()
    run_stage(Progress(plain_sink(stream), clock), clock, steps=2)
    assert stream.getvalue().splitlines() == [
        "train: 2 to do",
        "train: 1 of 2, 20 tokens/s, 0:15 left",
        "train: 2 of 2, 20 tokens/s, 0:10 left",
        "train: 2 of 2, 20 tokens/s, done in 0:10",
    ]


@pytest.mark.parametrize("open_sink", [plain_sink, json_sink])
def test_hostile_text_stays_on_one_line(open_sink: Callable[[TextIO], Sink]) -> None:
    stream = io.StringIO()
    with Progress(open_sink(stream)).stage("judge", 1) as stage:
        stage.failed("cell\x1b[31m", "a\nb\r\x00c\u202ed\x9b")
        stage.note("line\u2028two")
    text = stream.getvalue()
    assert len(text.splitlines()) == text.count("\n") == 4
    assert not set(text) & set("\x1b\r\x00\x9b\u202e\u2028")


def test_quiet_writes_nothing_and_a_file_gets_plain_lines() -> None:
    for quiet, expected in ((True, 0), (False, 2)):
        stream = io.StringIO()
        with open_progress(quiet=quiet, stream=stream).stage("build", 1):
            pass
        assert len(stream.getvalue().splitlines()) == expected


def test_a_terminal_gets_a_bar_that_prints_markup_as_it_is() -> None:
    read, write = pty.openpty()
    with open(write, "w", encoding="utf-8") as terminal, open_progress(stream=terminal).stage("train", 2) as stage:
        stage.advance(units=2, tokens=10)
        stage.failed("[red]cell[/red]", "no [/] such")
    shown = _all_of(read)
    assert "[red]cell[/red] failed: no [/] such" in shown
    assert "2/2" in shown


def _all_of(terminal: int) -> str:
    """A terminal hands over what it has, in parts of its own choosing; it fails once it was closed and is empty."""
    parts: list[bytes] = []
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()
