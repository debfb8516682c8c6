"""The loop of everything that runs units of work: calls to an executor, progress, and failures by cell.

Studies, steering, re-judging and audits use it. A call that fails takes only its own units with it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from spillover.errors import RunInterrupted, SpilloverError
from spillover.execution import EXECUTORS
from spillover.execution.base import Call, Executor, Outcome, Pool
from spillover.progress import Progress
from spillover.records.base import Failure

U = TypeVar("U")


def run_units(
    stage: str,
    units: Mapping[str, Sequence[U]],
    call: Callable[[str, Sequence[U]], Call],
    executor: Executor,
    progress: Progress,
    *,
    lost: Callable[[Sequence[U]], Iterable[str]] | None = None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
    tokens: int | None = None,
    note: str = "",
) -> list[Failure]:
    """Run every unit and return what failed.

    Args:
        stage: name of the stage, for progress and failures.
        units: the units of each call, by the call's name.
        call: makes the call of that name.
        executor: where calls run.
        progress: where events go.
        lost: the cells that cannot continue when these units fail; by default the name of their call.
        ended: gets every outcome first; what it raises ends the run.
        tokens: how many tokens the units will take, where that is known.
        note: shown when the stage starts.
    """
    failures: list[Failure] = []
    with progress.stage(stage, sum(map(len, units.values())), tokens) as events:
        if note:
            events.note(note)
        calls = [call(name, group) for name, group in units.items()]
        for outcome in executor.run(calls, lambda tokens: events.advance(tokens=tokens)):
            ended(outcome)
            name, group = outcome.call.name, units[outcome.call.name]
            if outcome.error is None:
                events.advance(units=len(group))
                continue
            error, cells = _sentence(outcome.error), list(lost(group) if lost else [name])
            failures += [Failure(stage=stage, cell=cell, error=error) for cell in cells]
            events.failed(cells[0] if cells else name, error)
    return failures


@contextmanager
def running(executor: Executor, saved: str) -> Generator[Executor]:
    """Close the executor in the end; an interrupt becomes an error that says what is saved.

    Raises:
        RunInterrupted: on an interrupt.
    """
    try:
        yield executor
    except KeyboardInterrupt:
        raise RunInterrupted(f"Interrupted. {saved}. Run the same command again to resume.") from None
    finally:
        executor.close()


def open_executor(name: str, pool: Pool) -> Executor:
    """The executor of that name, where a single local worker is this process itself (a study opens its own)."""
    return EXECUTORS.load("inline" if name == "local" and pool.workers == 1 else name)(pool)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, SpilloverError) else f"{type(error).__name__}: {error}"
