"""3,000 judgments through an endpoint that fails three times in ten, by a process that is killed twice on the way.

None lost, none paid twice: what was in the cache at a death is never requested again. What was generated and broke on
its way (cut, malformed, empty) may be billed by a provider, and so may the calls in progress at a death; both are
counted separately.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from completions import completions
from judge_server import FAULTS, JudgeBooks, expected, judging

from spillover.judges import llm
from spillover.judges.rubric import open_rubric
from spillover.models.api.cache import ChatCache
from spillover.records.base import Judgment

ANSWERS = 1_000  # of three prompts each
AT_ONCE = 48
CHUNK = 512  # as the judge stage hands them over
CHILD = """
import json, sys
sys.path.insert(0, sys.argv[2])
from completions import completions
from spillover.models.api import http
from spillover.judges import llm
http.FIRST_WAIT_S = 0.01
judge = llm.open_judge(json.loads(sys.argv[1]))
given = completions(int(sys.argv[4]))
with open(sys.argv[3], "w") as out:
    for start in range(0, len(given), int(sys.argv[5])):
        for judgment in judge.judge(given[start : start + int(sys.argv[5])]):
            out.write(judgment.model_dump_json() + "\\n")
"""


@pytest.fixture
def books() -> JudgeBooks:
    return JudgeBooks(fail=0.3)


@pytest.fixture
def url(books: JudgeBooks) -> Iterator[str]:
    with judging(books) as found:
        yield found


@pytest.mark.slow
def test_none_lost_none_paid_twice(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    price = {"prompt": 1.0, "completion": 1.0}
    options = {"endpoint": url, "model": "m", "mode": "logprobs", "concurrency": AT_ONCE, "retries": 16, "price": price}
    options |= {"cache": str(tmp_path / "c.sqlite")}
    out = tmp_path / "judgments.jsonl"
    helpers = str(Path(__file__).parents[1] / "helpers")
    command = [sys.executable, "-c", CHILD, json.dumps(options), helpers, str(out), str(ANSWERS), str(CHUNK)]
    rubric = open_rubric(None)
    judge = llm.open_judge(options)
    prompts = {judge._key(chat): chat[0].content for one in completions(ANSWERS) for chat in rubric.chats(one)}  # pyright: ignore[reportPrivateUsage]
    # The language of an answer is asked about without its question; here all answers differ, so all prompts do.
    assert len(prompts) == 3 * ANSWERS

    started = time.monotonic()
    paid_and_gone: set[str] = set()  # whole replies that a dead process had not kept
    frozen: dict[str, int] = {}
    for answered in (900, 1_900):
        child = subprocess.Popen(command)
        while len(books.billed) < answered:
            assert child.poll() is None
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        while books.at_once:
            time.sleep(0.01)
        kept = set(ChatCache(tmp_path / "c.sqlite").get(list(prompts)))
        frozen |= {key: books.tries[key] for key in kept if key not in frozen}
        paid_and_gone |= {key for key in prompts if books.billed[key] and key not in kept}
        assert len(kept) > answered * 0.8
    assert subprocess.run(command, check=False).returncode == 0
    seconds = time.monotonic() - started

    judgments = [Judgment.model_validate_json(line) for line in out.read_text().splitlines()]
    assert [row.completion for row in judgments[::2]] == [one.id for one in completions(ANSWERS)]
    assert {row.status for row in judgments} == {"scored", "unparsable"}
    by_mass = 0
    for one, judgment in zip(completions(ANSWERS), judgments[::2], strict=True):
        if judgment.raw.startswith("mass=") and judgment.status == "scored":
            by_mass += 1
            assert judgment.score == pytest.approx(expected(rubric.chats(one)[0][0].content), abs=0.005)
    assert by_mass > 0.95 * ANSWERS
    assert set(ChatCache(tmp_path / "c.sqlite").get(list(prompts))) == set(prompts), "none lost"

    assert all(books.tries[key] == tries for key, tries in frozen.items()), "what was kept is never asked for again"
    twice = {key for key, count in books.billed.items() if count > 1}
    assert twice <= paid_and_gone | {f"{key}-again-{n}" for key in paid_and_gone for n in (1, 2)}
    assert len(paid_and_gone) <= 2 * AT_ONCE
    assert set(books.faults) == set(FAULTS)
    calls = sum(books.tries.values())
    assert 0.27 < sum(books.faults.values()) / calls < 0.33
    again = sum(count for key, count in books.billed.items() if "-again-" in key)
    print(
        f"\n{len(prompts):,} judgments in {seconds:.1f} s: {calls:,} calls, {sum(books.faults.values()):,} faults "
        f"{dict(books.faults)}; {sum(books.billed.values()):,} whole replies, {again:,} of them asked for again for "
        f"want of log-probabilities; {sum(books.lost.values()):,} broke on their way; {len(paid_and_gone)} under way "
        f"at two deaths, {len(twice)} of them answered twice; {len(frozen):,} kept at a death, 0 asked again"
    )
