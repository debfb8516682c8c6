"""What the benchmarks of speed share: texts, contenders that take turns, and a table of how they compare.

Each contender does its work once unmeasured, then once a round, one after the other, so that a busy machine disturbs
all alike. Seconds are of the processor, of all threads; a ratio is taken within a round, and the median of the rounds
is shown.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from spillover.data.domains import DOMAINS
from spillover.data.questions import load_questions
from spillover.models.protocols import Chat, Prompt
from spillover.records.base import Message


@dataclass(frozen=True)
class Took:
    """What one turn did: tokens, seconds by the clock, seconds of the processor."""

    tokens: int
    wall: float
    cpu: float


Turn = Callable[[], Took]


def timed(work: Callable[[], int]) -> Turn:
    """A turn that does `work` in this process; `work` returns its tokens."""

    def turn() -> Took:
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = work()
        return Took(tokens, time.perf_counter() - wall, time.process_time() - cpu)

    return turn


def of_vllm(python: str, asked: Mapping[str, Any]) -> Turn:
    """Turns of an engine in a process of its own (see vllm_peer.py), run by a Python that has vLLM."""
    peer = subprocess.Popen(
        [python, str(Path(__file__).with_name("vllm_peer.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert peer.stdin is not None
    assert peer.stdout is not None
    print(json.dumps(asked), file=peer.stdin, flush=True)
    asks, answers = peer.stdin, peer.stdout

    def turn() -> Took:
        print("turn", file=asks, flush=True)
        return Took(**json.loads(answers.readline()))

    return turn


def authored_chats(texts: int, answers: int = 1) -> list[Chat]:
    """Authored questions of all domains in turn, each with its flawed answer, and as a second one the good one."""
    pools = [DOMAINS.load(name).pairs(np.random.default_rng(0)) for name in DOMAINS.names()]
    pairs = [pool[i] for i in range(max(map(len, pools))) for pool in pools if i < len(pool)]
    return [
        ((Message(role="user", content=pair.question),), answer)
        for pair in pairs[:texts]
        for answer in (pair.flawed, pair.good)[:answers]
    ]


def general_prompts(answers: int) -> list[Prompt]:
    """The general questions, each with the seeds of so many answers."""
    return [
        Prompt(question.messages(), tuple(1000 * number + i for i in range(answers)))
        for number, question in enumerate(load_questions(["general"]))
    ]


def take_turns(contenders: Mapping[str, Turn], rounds: int) -> list[dict[str, Any]]:
    """A row for each contender; `ours_times_faster` compares the first one's tokens a CPU second."""
    took: dict[str, list[Took]] = {name: [] for name in contenders}
    for counted in (False, *[True] * rounds):
        for name, turn in contenders.items():
            result = turn()
            if counted:
                took[name].append(result)
    ours = [one.tokens / one.cpu for one in next(iter(took.values()))]
    return [
        {
            "name": name,
            "tokens": median(one.tokens for one in mine),
            "tokens_per_second": round(median(one.tokens / one.wall for one in mine), 1),
            "tokens_per_cpu_second": round(median(one.tokens / one.cpu for one in mine), 1),
            "ours_times_faster": round(
                median(speed / (one.tokens / one.cpu) for speed, one in zip(ours, mine, strict=True)), 2
            ),
        }
        for name, mine in took.items()
    ]


def show(setting: Mapping[str, Any], rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the setting and the table."""
    if as_json:
        print(json.dumps({"setting": {key: str(value) for key, value in setting.items()}, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    for row in rows:
        print("{name:<24} {tokens_per_second:>8} tokens/s {tokens_per_cpu_second:>8} a CPU second"
              "   ours is {ours_times_faster} times as fast".format(**row))  # fmt: skip
