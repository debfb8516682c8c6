"""Which task a free worker takes: one of the group that it has loaded, else of the group that is served worst.

A group is what has to be loaded before a task runs, such as a base model. Loading costs minutes and a task often less,
so a worker stays with its group until nothing of it waits. Then it goes where most tasks wait for each worker that is
there, itself included. The executor of a cluster and its simulator share this file: what is simulated is what runs.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class TaskQueue(Generic[T]):
    """Waiting tasks by group, and how many workers have each group loaded."""

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

    def put_back(self, group: str, task: T) -> None:
        """In front of its group: a worker was lost with it."""
        self._tasks.setdefault(group, deque()).appendleft(task)
        self._count += 1

    def take(self, loaded: str | None) -> tuple[str, T]:
        """The next task of a worker that has this group loaded, and that task's group. There must be one."""
        group = loaded if loaded is not None and self._tasks.get(loaded) else self._least_served()
        if group != loaded:
            self.release(loaded)
            self._workers[group] += 1
        self._count -= 1
        tasks = self._tasks[group]
        task = tasks.popleft()
        if not tasks:
            del self._tasks[group]
        return group, task

    def release(self, loaded: str | None) -> None:
        """A worker no longer has that group loaded."""
        if loaded is not None:
            self._workers[loaded] -= 1

    def _least_served(self) -> str:
        return max(self._tasks, key=lambda group: len(self._tasks[group]) / (1 + self._workers[group]))
