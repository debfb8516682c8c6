"""Run calls on this machine: in spawned worker processes, or in this process.

Small models gain nothing from several threads a matmul; one single-thread process a core is faster. Workers keep their
loaded models between calls. They leave when the driver dies (its process id changes).

A worker that dies breaks the pool: a new one is made, and every unfinished call runs again alone, up to `TRIES` times.
The rows that it had written stay (store/shard.py), so only missing ones are made; a call that fails to the end is a
failure of its unit, and the other units go on (execution/runner.py).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spillover.errors import MachineError
from spillover.execution.base import Call, Outcome, Pool, Ticker
from spillover.execution.heap import give_back_memory, keep_memory
from spillover.registry import resolve

TICK_S = 0.5
TRIES = 2  # of a call alone, after the pool broke while it ran


class LocalExecutor:
    """A pool of `workers` processes with `threads` threads each."""

    def __init__(self, workers: int, threads: int = 1) -> None:
        self._workers = workers
        self._threads = threads
        self._folder = tempfile.TemporaryDirectory(prefix="spillover-")
        self._fifo = Path(self._folder.name) / "ticks"
        os.mkfifo(self._fifo)
        self._ticks = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._pool = self._new_pool(workers)
        self._calls: list[Future[Any]] = []  # of the last run

    def run(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        """Yield the outcome of every call as it ends."""
        suspects: list[Call] = []
        for outcome in self._run_once(calls, ticker):
            if isinstance(outcome.error, BrokenProcessPool):
                suspects.append(outcome.call)
            else:
                yield outcome
        # The pool cannot say whose worker died, so each unfinished call is tried again by itself.
        for call in suspects:
            for attempt in range(1, TRIES + 1):
                (outcome,) = self._run_once([call], ticker)
                if not isinstance(outcome.error, BrokenProcessPool):
                    yield outcome
                    break
                if attempt == TRIES:
                    yield Outcome(call, error=MachineError(self._death_message()))

    def close(self) -> None:
        """Stop the workers; those in the middle of a call at once, and whatever they had written stays."""
        if all(call.done() for call in self._calls):
            self._pool.shutdown()
        else:
            _kill(self._pool)
        os.close(self._ticks)
        self._folder.cleanup()

    def _run_once(self, calls: Sequence[Call], ticker: Ticker) -> Iterator[Outcome]:
        with _without_main():
            waiting: dict[Future[Any], Call] = {self._pool.submit(_perform, call): call for call in calls}
        self._calls = list(waiting)
        while waiting:
            done, _ = wait(waiting, timeout=TICK_S, return_when=FIRST_COMPLETED)
            self._forward_ticks(ticker)
            for future in done:
                call = waiting.pop(future)
                error = future.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error
                yield Outcome(call, error=error) if error else Outcome(call, future.result())
            if not waiting and any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                _kill(self._pool)
                self._pool = self._new_pool(self._workers)

    def _death_message(self) -> str:
        if self._workers > 1:
            advice = "Try --set workers=1, then run the same command again"
        else:
            advice = (
                "No other worker was running: close other programs, or reduce the size of the model, "
                "train.micro_batch_tokens or sample.batch, then run the same command again"
            )
        return f"the worker process died each time (out of memory?). Its finished rows are safe. {advice}"

    def _forward_ticks(self, ticker: Ticker) -> None:
        """Forward the token counts that workers have written since the last look, 0 where there are none."""
        text = b""
        while True:
            try:
                part = os.read(self._ticks, 65536)
            except BlockingIOError:
                break
            if not part:
                break
            text += part
        ticker(sum(int(line) for line in text.split()))

    def _new_pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(os.getpid(), str(self._fifo), self._threads),
        )


def open_executor(pool: Pool) -> LocalExecutor:
    """So many processes with the pool's threads each."""
    return LocalExecutor(pool.workers, pool.threads)


class InlineExecutor:
    """Every call in this process, one after the other: for tests, debuggers and a single GPU."""

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


def open_inline(pool: Pool) -> InlineExecutor:
    """The executor of this process, which is the only worker."""
    return InlineExecutor()


@contextmanager
def _without_main() -> Generator[None]:
    """Keep spawn from importing the caller's script again: workers need none of it, and it may start a study."""
    main = sys.modules["__main__"].__dict__
    shown = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(shown)


def _kill(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())  # pyright: ignore[reportPrivateUsage]
    for process in processes:
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


_fifo_path = ""


def _start_worker(driver: int, fifo: str, threads: int) -> None:
    global _fifo_path
    _fifo_path = fifo
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # beside other work, threads that spin cost all that they gain
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    threading.Thread(target=_exit_with_driver, args=(driver,), daemon=True).start()


def _exit_with_driver(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(TICK_S)
    os._exit(1)


def _perform(call: Call) -> Any:
    pipe = os.open(_fifo_path, os.O_WRONLY | os.O_NONBLOCK)
    pending, last = 0, time.monotonic()

    def ticker(tokens: int) -> None:
        nonlocal pending, last
        pending += tokens
        if time.monotonic() - last >= TICK_S:
            _write_tick(pipe, pending)
            pending, last = 0, time.monotonic()

    try:
        value = resolve(call.function)(*call.args, ticker)
        _write_tick(pipe, pending)
        return value
    finally:
        os.close(pipe)
        give_back_memory()


def _write_tick(pipe: int, tokens: int) -> None:
    """A line shorter than PIPE_BUF is written whole or not at all, so no lock that a killed worker could hold."""
    try:
        os.write(pipe, b"%d\n" % tokens)
    except (BlockingIOError, BrokenPipeError):
        return
