"""The loop that runs units: progress by unit, failures by cell, and what an interrupt becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from spillover.errors import RunInterrupted, UserError
from spillover.execution.base import Call, Outcome, Pool, Ticker
from spillover.execution.local import InlineExecutor
from spillover.execution.runner import open_executor, run_units, running
from spillover.progress import Event, Progress

UNITS = {"a": [1, 2], "b": [3], "c": [4, 5, 6]}


def work(numbers: Sequence[int], ticker: Ticker) -> int:
    ticker(10 * len(numbers))
    if 3 in numbers:
        raise UserError("Three is missing. Add it.")
    if 4 in numbers:
        raise KeyError("four")
    return sum(numbers)


def call(name: str, numbers: Sequence[int]) -> Call:
    return Call(name, f"{__name__}:work", (numbers,))


def test_failures_name_their_cells_and_take_no_other_unit_with_them() -> None:
    events: list[Event] = []
    values: dict[str, object] = {}

    def ended(outcome: Outcome) -> None:
        values[outcome.call.name] = outcome.value

    failures = run_units(
        "judge", UNITS, call, InlineExecutor(), Progress(events.append),
        lost=lambda group: [f"cell-{number}" for number in group], ended=ended, tokens=60, note="2 are done already",
    )  # fmt: skip
    assert [(f.stage, f.cell) for f in failures] == [("judge", f"cell-{n}") for n in (3, 4, 5, 6)]
    assert [f.error for f in failures[:2]] == ["Three is missing. Add it.", "KeyError: 'four'"]
    assert values == {"a": 3, "b": None, "c": None}
    assert [(e.cell, e.text) for e in events if e.kind in ("note", "failed")] == [
        ("", "2 are done already"),
        ("cell-3", "Three is missing. Add it."),
        ("cell-4", "KeyError: 'four'"),
    ]
    last = events[-1]
    assert (last.kind, last.units, last.total_units, last.tokens, last.total_tokens) == ("finished", 2, 6, 60, 60)


def test_without_cells_a_failure_has_the_name_of_its_call() -> None:
    failures = run_units("steer", UNITS, call, InlineExecutor(), Progress(lambda event: None))
    assert [failure.cell for failure in failures] == ["b", "c"]


def test_what_looks_at_the_outcomes_can_end_the_run() -> None:
    def ended(outcome: Outcome) -> None:
        if outcome.error is not None:
            raise outcome.error

    with pytest.raises(UserError, match="Three is missing"):
        run_units("surprise", UNITS, call, InlineExecutor(), Progress(lambda event: None), ended=ended)


class Interrupted:
    """An executor that is interrupted at once, and remembers whether it was closed."""

    closed = False

    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        raise KeyboardInterrupt

    def close(self) -> None:
        self.closed = True


def test_an_interrupt_says_what_is_saved() -> None:
    executor = Interrupted()
    saved = r"Interrupted\. Rows are saved in x\. Run the same command again to resume\."
    with pytest.raises(RunInterrupted, match=saved), running(executor, "Rows are saved in x") as opened:
        run_units("judge", UNITS, call, opened, Progress(lambda event: None))
    assert executor.closed


def test_a_single_local_worker_is_this_process() -> None:
    assert isinstance(open_executor("local", Pool(1)), InlineExecutor)
