"""The batch client against an endpoint that expires, fails, loses and breaks batches, and against its own death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_server import JudgeBooks, judging, score_of

from spillover.errors import CostLimitReached, SpilloverError, UserError
from spillover.models.api.batches import BatchClient, Limits
from spillover.models.api.cache import ChatCache
from spillover.models.api.chat import Decoding, Price, Reply, Request, worst_case
from spillover.models.api.http import Endpoint
from spillover.records.base import Message

pytestmark = pytest.mark.slow

DECODING = Decoding(8, 0.0, logprobs=True)
NO_LIMITS, FREE = Limits(), Price()


@pytest.fixture
def books() -> JudgeBooks:
    return JudgeBooks()


@pytest.fixture
def url(books: JudgeBooks) -> Iterator[str]:
    with judging(books) as found:
        yield found


def requests(count: int) -> list[Request]:
    return [Request(f"key-{n:05d}", (Message(role="user", content=f"question {n}"),), 0) for n in range(count)]


def client(
    url: str,
    folder: Path,
    limits: Limits = NO_LIMITS,
    price: Price = FREE,
    wait: bool = True,
    retries: int = 8,
) -> BatchClient:
    endpoint = Endpoint(url, "m", retries=retries, timeout_s=10.0)
    cache = ChatCache(folder / "c.sqlite")
    return BatchClient(endpoint, cache, "me", price, limits, 0.01, wait, lambda _: time.sleep(0.005))


def check(replies: list[Reply], count: int) -> None:
    assert sorted(reply.id for reply in replies) == [request.id for request in requests(count)]
    assert {reply.id: reply.text for reply in replies} == {
        request.id: str(score_of(request.messages[0].content)) for request in requests(count)
    }
    assert all(reply.first is not None for reply in replies)


def test_one_batch_answers_all(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    chat = client(url, tmp_path)
    check(list(chat.ask(requests(50), DECODING)), 50)
    assert len(books.batches) == 1
    assert set(books.submitted.values()) == {1}
    assert chat.cache.batches("me") == []
    assert chat.cache.keys_in_batches("me") == set()
    check(list(client(url, tmp_path).ask(requests(50), DECODING)), 50)
    assert len(books.batches) == 1


def test_expired_failed_lost_and_broken_batches_submit_again_only_what_is_missing(
    books: JudgeBooks, url: str, tmp_path: Path
) -> None:
    books.fates = ["expired", "failed", "gone", "partial", "completed"]
    check(list(client(url, tmp_path).ask(requests(60), DECODING)), 60)
    assert set(books.billed.values()) == {1}
    # 60, of which 30 expire; these 30 three times, of which 20 are answered badly; these 20
    assert sum(books.submitted.values()) == 60 + 30 + 30 + 30 + 20


def test_batches_are_cut_by_requests_bytes_and_enqueued_tokens(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    one = worst_case(requests(1)[0].messages, 8)
    tokens = one.prompt_tokens + one.completion_tokens
    for number, (limits, most) in enumerate(
        [(Limits(requests=10), 10), (Limits(bytes=1000), 5), (Limits(tokens=7 * (tokens + 1)), 7)]
    ):
        before = set(books.batches)
        check(list(client(url, tmp_path / str(number), limits).ask(requests(30), DECODING)), 30)
        new = [batch for name, batch in books.batches.items() if name not in before]
        sizes = [books.files[batch["input_file_id"]].count(b"custom_id") for batch in new]
        assert sum(sizes) == 30
        assert max(sizes) <= most
        assert max(len(books.files[batch["input_file_id"]]) for batch in new) <= limits.bytes


def test_a_request_larger_than_the_tokens_allowed_goes_alone(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    check(list(client(url, tmp_path, Limits(tokens=1)).ask(requests(3), DECODING)), 3)
    assert len(books.batches) == 3


def test_a_batch_that_was_created_unheard_is_found_by_its_name(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    books.cut_creations = 1
    check(list(client(url, tmp_path).ask(requests(10), DECODING)), 10)
    assert len(books.batches) == 1


def test_without_wait_it_submits_and_leaves(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    with pytest.raises(SpilloverError, match=r"Waiting for 20 judgments \(20 of them submitted just now\)"):
        list(client(url, tmp_path, wait=False).ask(requests(20), DECODING))
    with pytest.raises(SpilloverError, match=r"Waiting for 20 judgments \(0 of them submitted just now\)"):
        list(client(url, tmp_path, wait=False).ask(requests(20), DECODING))
    check(list(client(url, tmp_path, wait=False).ask(requests(20), DECODING)), 20)
    assert set(books.submitted.values()) == {1}


def test_what_never_succeeds_is_an_error_and_not_kept(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    books.fates = ["failed"] * 3
    replies = list(client(url, tmp_path, retries=2).ask(requests(4), DECODING))
    assert {(reply.outcome, reply.error) for reply in replies} == {
        ("error", "the batch is failed: no machine was free (3 batches)")
    }
    check(list(client(url, tmp_path).ask(requests(4), DECODING)), 4)


def test_the_cost_limit_holds_before_anything_is_submitted(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    price = Price(1000.0, 1000.0)
    one = price.of(worst_case(requests(1)[0].messages, 8))
    with pytest.raises(CostLimitReached, match="max_cost"):
        list(client(url, tmp_path, Limits(dollars=10 * one), price).ask(requests(100), DECODING))
    assert 10 <= len(books.billed) < 100  # what a reply really costs makes room for more
    assert 9 * one < ChatCache(tmp_path / "c.sqlite").spent("me") <= 10 * one
    assert set(books.submitted.values()) == {1}


def test_flawed_log_probabilities_are_asked_for_twice_more(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    books.style = "text"
    replies = list(client(url, tmp_path).ask(requests(2), DECODING))
    assert [reply.first for reply in replies] == [None, None]
    assert set(books.billed.values()) == {3}


def test_a_key_never_shows(books: JudgeBooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    endpoint = Endpoint("https://127.0.0.1:9/v1", "m", key_env="JUDGE_KEY", retries=0, timeout_s=0.5)
    chat = BatchClient(endpoint, ChatCache(tmp_path / "c.sqlite"), "me", Price(), Limits(), sleep=lambda _: None)
    with pytest.raises(SpilloverError) as caught:
        list(chat.ask(requests(1), DECODING))
    assert "sk-secret" not in str(caught.value)
    with pytest.raises(UserError, match="unencrypted"):
        BatchClient(Endpoint("http://host/v1", "m", key_env="JUDGE_KEY"), chat.cache, "me", Price(), Limits())


CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_batches import DECODING, client, requests
from spillover.models.api.batches import Limits
chat = client(sys.argv[1], Path(sys.argv[2]), Limits(requests=25))
chat._sleep = lambda _: time.sleep(0.1)
print("ready", flush=True)
print(len(list(chat.ask(requests(100), DECODING))))
"""


def start(url: str, folder: Path) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    command = [sys.executable, "-c", CHILD, url, str(folder), str(here), str(here.parents[1] / "helpers")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_deaths_submit_nothing_twice(books: JudgeBooks, url: str, tmp_path: Path) -> None:
    """Killed while files go up, and while it waits; expired and lost batches besides."""
    books.fates = ["completed", "expired", "gone", "completed"]
    for batches in (2, 4):
        child = start(url, tmp_path)
        while len(books.batches) < batches:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    child = start(url, tmp_path)
    assert child.communicate()[0].split() == ["ready", "100"]
    check(list(client(url, tmp_path).ask(requests(100), DECODING)), 100)
    assert set(books.billed.values()) == {1}
    assert sum(books.submitted.values()) == 100 + 12 + 25  # expired: 12 of 25 unanswered; gone: all 25
