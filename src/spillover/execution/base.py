"""What an executor does: run calls somewhere, and report each outcome. It is independent of stages and models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from spillover.config.study import ClusterConfig

Ticker = Callable[[int], None]
"""Called in the driver with the number of tokens done since the last time: before each call, and often while one runs,
if only with 0. What it raises ends the run."""


@dataclass(frozen=True)
class Call:
    """`function` is "module:name" of function(*args, ticker) with picklable arguments and result.

    `group` names what has to be loaded first, such as a base model: a worker prefers calls of the group that it has
    loaded. `gpu`: it wants a graphics card where there are any.
    """

    name: str
    function: str
    args: tuple[Any, ...]
    group: str = ""
    gpu: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a call: a value, or an error whose sentence a person can act on."""

    call: Call
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True)
class Pool:
    """What is asked of an executor. Only one that reaches other machines reads more than `workers`.

    `workers`: how many calls run at once, at most; `auto`: nobody chose that number, take all that fit. `witness`: a
    file that every worker must find as the driver left it, for they have to share the run folder's disk.
    """

    workers: int
    auto: bool = False
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    witness: Path | None = None

    @property
    def threads(self) -> int:
        """Of each worker on this machine; one worker alone uses all cores."""
        return 1 if self.workers > 1 else (os.cpu_count() or 1)


class Executor(Protocol):
    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        """Yield the outcome of every call as it ends, in any order."""
        ...

    def close(self) -> None:
        """Stop the workers."""
        ...
