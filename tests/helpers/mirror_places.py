"""Places for mirrors in tests: a fresh one in memory, and one whose network fails now and then, or altogether."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

_numbers = itertools.count()


def fresh(scheme: str = "memory") -> str:
    return f"{scheme}://mirror-{next(_numbers)}/x"


class FlakyFileSystem(MemoryFileSystem):
    """Files in memory; every `every`-th call fails, or all calls after the first `until` do."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 -- as in fsspec's own
    pseudo_dirs = [""]  # noqa: RUF012
    every = 0
    until = 10**9
    calls = 0
    failed = 0
    _lock = threading.Lock()

    @classmethod
    def behave(cls, every: int = 0, until: int = 10**9) -> None:
        cls.every, cls.until, cls.calls, cls.failed = every, until, 0, 0

    def _maybe(self) -> None:
        cls = type(self)
        with cls._lock:
            cls.calls += 1
            if cls.calls > cls.until or (cls.every and cls.calls % cls.every == 0):
                cls.failed += 1
                raise ConnectionError("the network is gone")

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._maybe()
        return super().find(path, *args, **kwargs)

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> bytes:
        self._maybe()
        return super().cat_file(path, *args, **kwargs)

    def size(self, path: str) -> Any:
        self._maybe()
        return super().size(path)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._maybe()
        super().pipe_file(path, value, mode, **kwargs)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        self._maybe()
        super().put_file(lpath, rpath, *args, **kwargs)


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
