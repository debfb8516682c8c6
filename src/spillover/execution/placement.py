"""Which task a free worker takes: one of the group that it has loaded, else of the group that is served worst.

A group is what has to be loaded before a task runs, such as a base model. Loading costs minutes and a task often less,
so a worker stays with its group until nothing of it waits. Then it goes where most tasks wait for each worker that is
there, itself included. The executor of a cluster and its simulator share this file: what is simulated is what runs.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """Tasks that wait, by group, and how many workers have each group loaded."""

    def __init__(self) -> None:
        self._tasks: dict[str, deque[T]] = {}
        self._workers: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, group: str, task: T) -> None:
        """Behind those of its group."""
        self._tasks.setdefault(group, deque()).append(task)
        self._count += 1

    def again(self, group: str, task: T) -> None:
        """In front of its group: a worker was lost with it."""
        self._tasks.setdefault(group, deque()).appendleft(task)
        self._count += 1

    def take(self, loaded: str | None) -> tuple[str, T]:
        """The next task of a worker that has this group loaded, and that task's group. There must be one."""
        group = loaded if loaded is not None and self._tasks.get(loaded) else self._served_worst()
        if group != loaded:
            self.left(loaded)
            self._workers[group] += 1
        self._count -= 1
        tasks = self._tasks[group]
        task = tasks.popleft()
        if not tasks:
            del self._tasks[group]
        return group, task

    def left(self, loaded: str | None) -> None:
        """A worker has that group loaded no more."""
        if loaded is not None:
            self._workers[loaded] -= 1

    def _served_worst(self) -> str:
        return max(self._tasks, key=lambda group: len(self._tasks[group]) / (1 + self._workers[group]))
