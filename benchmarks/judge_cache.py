"""Milliseconds that the cache of answers adds to each: written one by one, as they come, and read by the chunk.

Each answer is committed by itself, so that a killed process loses none. Beside it the same answers as JSON Lines with a
flush each: the least that keeping anything costs. Medians over the rounds, in one process, of the clock and of the
processor's time; on a busy machine they differ.

    python benchmarks/judge_cache.py --answers 20000 --rounds 5 --json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from spillover.models.api.cache import ChatCache, reply_key
from spillover.models.api.chat import FirstToken, Reply
from spillover.records.base import Message, Usage

CHUNK = 512 * 3  # of three prompts, as the judge stage hands answers over
LEAST_MS = 0.1


def main() -> None:
    """Run the rounds and print milliseconds an answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    count = arguments.answers
    rounds = [measure(count) for _ in range(arguments.rounds)]
    clock, processor = ({name: median(one[kind][name] for one in rounds) for name in rounds[0][0]} for kind in (0, 1))
    if arguments.json:
        found = {"clock": clock, "processor": processor}
        print(json.dumps({"answers": count, "ms_an_answer": found}, indent=2))
        return
    for name, ms in clock.items():
        print(f"{name:12} {ms:8.4f} ms an answer, {processor[name]:8.4f} of the processor")
    print(f"wanted: at most {LEAST_MS} ms added")


def measure(count: int) -> list[dict[str, float]]:
    """One round in a new folder: by the clock, and by the processor."""
    chats = [(Message(role="user", content=f"{'A rubric of usual length. ' * 40}{n}"),) for n in range(count)]
    top = tuple((str(number), -0.5 * number) for number in range(20))
    with tempfile.TemporaryDirectory() as folder:
        cache = ChatCache(Path(folder) / "c.sqlite")
        cache.get(["none"])  # opens it
        times = [now()]
        keys = [reply_key("me", chat, {"max_tokens": 8, "temperature": 0, "logprobs": True}, 0) for chat in chats]
        times.append(now())
        usage = Usage(prompt_tokens=300, completion_tokens=2, dollars=1e-5)
        replies = [Reply(key, "85", "stop", usage, first=FirstToken("0", -0.1, top)) for key in keys]
        times.append(now())
        for reply in replies:
            cache.put("me", reply)
        times.append(now())
        for start in range(0, count, CHUNK):
            assert len(cache.get(keys[start : start + CHUNK])) == min(CHUNK, count - start)
        times.append(now())
        with (Path(folder) / "plain.jsonl").open("w") as plain:
            for reply in replies:
                plain.write(json.dumps([reply.id, reply.text, top]) + "\n")
                plain.flush()
        times.append(now())
    found: list[dict[str, float]] = []
    for kind in (0, 1):
        key, _, write, read, lines = (1e3 * (b[kind] - a[kind]) / count for a, b in pairwise(times))
        found.append({"key": key, "write": write, "read": read, "added": key + write + read, "JSON Lines": lines})
    return found


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
