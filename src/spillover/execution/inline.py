"""Run every call in this process, one after the other: for tests, debuggers and a single GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spillover.execution.base import Call, Outcome, Pool, Ticker
from spillover.registry import resolve


class InlineExecutor:
    """No workers at all."""

    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        """Yield the outcome of every call, in order."""
        for call in calls:
            ticker(0)
            try:
                yield Outcome(call, resolve(call.function)(*call.args, ticker))
            except Exception as error:
                yield Outcome(call, error=error)

    def close(self) -> None:
        """Nothing to stop."""


def open_executor(pool: Pool) -> InlineExecutor:
    """The executor of this process, which is the only worker."""
    return InlineExecutor()
