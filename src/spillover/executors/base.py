"""What an executor does: run calls somewhere, and say what became of each. It knows nothing of stages or models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Ticker = Callable[[int], None]
"""Called in the driver with the number of tokens done since the last time: before each call, and often while one runs,
if only with 0. What it raises ends the run."""


@dataclass(frozen=True)
class Call:
    """`function` is "module:name" of function(*args, ticker) with picklable arguments and result."""

    name: str
    function: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a call: a value, or an error whose sentence a person can act on."""

    call: Call
    value: Any = None
    error: Exception | None = None


class Executor(Protocol):
    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        """Yield the outcome of every call as it ends, in any order."""
        ...

    def close(self) -> None:
        """Stop the workers."""
        ...
