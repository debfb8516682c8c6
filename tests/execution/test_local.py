"""Workers run calls, say what failed, survive the death of one of them, and leave with their driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spillover.errors import MachineError, TimeIsUp, UserError
from spillover.execution.base import Call, Ticker
from spillover.execution.local import LocalExecutor

HERE = Path(__file__).parent


def square(number: int, ticker: Ticker) -> int:
    ticker(number)
    return number * number


def setting(name: str, ticker: Ticker) -> str | None:
    return os.environ.get(name)


def refuse(ticker: Ticker) -> None:
    raise UserError("not this one")


def die_once(marker: str, ticker: Ticker) -> str:
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die(ticker: Ticker) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_outcomes_errors_and_ticks() -> None:
    calls = [Call(str(n), f"{__name__}:square", (n,)) for n in range(6)] + [Call("bad", f"{__name__}:refuse", ())]
    ticks: list[int] = []
    executor = LocalExecutor(2)
    outcomes = {outcome.call.name: outcome for outcome in executor.run(calls, ticks.append)}
    executor.close()
    assert [outcomes[str(n)].value for n in range(6)] == [0, 1, 4, 9, 16, 25]
    assert isinstance(outcomes["bad"].error, UserError)
    assert sum(ticks) == 15


@pytest.mark.slow
def test_a_worker_has_its_threads_and_they_do_not_spin() -> None:
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    executor = LocalExecutor(1, threads=2)
    found = {o.call.name: o.value for o in executor.run([Call(n, f"{__name__}:setting", (n,)) for n in names], print)}
    executor.close()
    assert found == {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.slow
def test_a_killed_worker_costs_one_try_of_its_own_call(tmp_path: Path) -> None:
    calls = [Call("once", f"{__name__}:die_once", (str(tmp_path / "marker"),)), Call("always", f"{__name__}:die", ())]
    calls += [Call(str(n), f"{__name__}:square", (n,)) for n in range(4)]
    executor = LocalExecutor(2)
    outcomes = {outcome.call.name: outcome for outcome in executor.run(calls, lambda tokens: None)}
    executor.close()
    assert outcomes["once"].value == "alive"
    assert isinstance(outcomes["always"].error, MachineError)
    assert [outcomes[str(n)].value for n in range(4)] == [0, 1, 4, 9]


def test_the_advice_fits_the_number_of_workers() -> None:
    said: list[str] = []
    for workers in (1, 2):
        executor = LocalExecutor(workers)  # starts no process before its first call
        said.append(executor._death_message())  # pyright: ignore[reportPrivateUsage]
        executor.close()
    assert "--set workers=1" in said[1]
    assert "--set workers=1" not in said[0]
    assert "micro_batch_tokens" in said[0]


SCRIPT = """
import os
from spillover.execution.base import Call
from spillover.execution.local import LocalExecutor
print("started once", flush=True)
executor = LocalExecutor(2)
print([outcome.value for outcome in executor.run([Call(str(n), "os:getpid", ()) for n in ()], print)])
calls = [Call("a", "test_local:square", (3,)), Call("b", "test_local:wait_forever", ())]
for outcome in executor.run(calls, lambda tokens: None):
    os.write(1, f"{outcome.value}\\n".encode())
"""


def wait_forever(ticker: Ticker) -> None:
    os.write(1, f"{os.getpid()}\n".encode())  # whole, as two processes write to one pipe
    time.sleep(600)


@pytest.mark.slow
def test_a_silent_call_is_stopped_by_what_the_ticker_raises() -> None:
    executor = LocalExecutor(1)
    heard: list[int] = []

    def tick(tokens: int) -> None:
        heard.append(tokens)
        if len(heard) == 3:
            raise TimeIsUp

    try:
        with pytest.raises(TimeIsUp):
            list(executor.run([Call("b", f"{__name__}:wait_forever", ())], tick))
        (worker,) = executor._pool._processes or {}  # pyright: ignore[reportPrivateUsage]
    finally:
        executor.close()
    assert heard == [0, 0, 0]
    assert not os.path.exists(f"/proc/{worker}")


@pytest.mark.slow
def test_a_script_without_a_main_guard_works_and_its_workers_die_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = os.environ | {"PYTHONPATH": str(HERE)}
    driver = subprocess.Popen([sys.executable, str(script)], env=paths, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    lines = [driver.stdout.readline().strip() for _ in range(4)]
    assert lines[:2] == ["started once", "[]"]
    assert "9" in lines[2:]
    worker = next(int(line) for line in lines[2:] if line != "9")
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{worker}")
