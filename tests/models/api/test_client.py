"""The client of chat completions against an endpoint that fails on purpose, its cost limit and its window (AIMD)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fault_server import Books, completion, serving
from hypothesis import given
from hypothesis import strategies as st

from spillover.config.study import ModelConfig
from spillover.errors import CostLimitReached, MachineError, UserError
from spillover.models.api.chat import Decoding, LocalChat, Meter, Price, Reply, Request, worst_case
from spillover.models.api.client import ChatClient, Window
from spillover.models.api.http import Endpoint
from spillover.models.api.wire import Fault, address, retry_after, understand
from spillover.models.fake import open_backend
from spillover.records.base import Message

DECODING = Decoding(max_tokens=60, temperature=0.7)
KEY = "sk-secret-123"


def requests(count: int) -> list[Request]:
    return [Request(f"id-{n}", (Message(role="user", content=f"question {n}"),), n) for n in range(count)]


class Naps:
    """Sleeps that take no time and are remembered."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def url(books: Books) -> Iterator[str]:
    with serving(books) as found:
        yield found


def client(url: str, price: Price = Price(), limit: float | None = None, **changes: object) -> ChatClient:  # noqa: B008
    settings: dict[str, object] = {"url": url, "model": "m", "timeout_s": 5.0, **changes}
    return ChatClient(Endpoint(**settings), Meter(price, limit), Naps())  # type: ignore[arg-type]


def error(status: int, code: str = "", param: str = "", message: str = "no") -> tuple[int, dict[str, str], bytes]:
    return status, {}, json.dumps({"error": {"code": code, "param": param, "message": message}}).encode()


@pytest.mark.slow
def test_every_request_gets_one_reply_although_a_third_of_calls_fail(books: Books, url: str) -> None:
    books.fail, books.hang_s = 0.3, 1.3
    chat = client(url, concurrency=16, retries=12, timeout_s=1.0)
    replies = list(chat.ask(requests(120), DECODING))
    assert sorted(reply.id for reply in replies) == sorted(request.id for request in requests(120))
    assert {reply.outcome for reply in replies} == {"stop"}
    assert set(books.answered.values()) == {1}
    assert set(books.faults) == {"429", "500", "503", "cut", "malformed", "timeout"}
    assert sum(chat.retried.values()) == sum(books.faults.values())
    assert 0.2 < sum(books.faults.values()) / sum(books.tries.values()) < 0.4
    assert chat.meter.lost_calls == sum(books.faults[kind] for kind in ("cut", "malformed", "timeout"))


def test_a_call_has_the_documented_body_and_headers(books: Books, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    [reply] = client(url, key_env="SOME_KEY").ask(requests(1), DECODING)
    assert reply.usage.prompt_tokens == 2
    assert reply.usage.completion_tokens == 50
    assert books.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "question 0"}],
            "max_tokens": 60,
            "temperature": 0.7,
        }
    ]
    assert books.headers[0]["authorization"] == f"Bearer {KEY}"
    assert books.headers[0]["idempotency-key"] == "id-0"


def test_no_key_is_sent_unless_one_is_named(books: Books, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    list(client(url).ask(requests(1), DECODING))
    assert "authorization" not in books.headers[0]
    with pytest.raises(UserError, match="NO_SUCH_KEY"):
        client(url, key_env="NO_SUCH_KEY")


def test_a_key_never_shows(books: Books, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    books.script = [error(401, message=f"bad key {KEY}")]
    with pytest.raises(UserError, match="rejects the key") as caught:
        list(client(url, key_env="SOME_KEY").ask(requests(1), DECODING))
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    books.script = [error(503, message=KEY)] * 3
    [reply] = client(url, key_env="SOME_KEY", retries=2).ask(requests(1), DECODING)
    assert reply.outcome == "error"
    assert KEY not in reply.error


def test_calls_run_at_once_up_to_the_concurrency(books: Books, url: str) -> None:
    books.delay_s = 0.05
    list(client(url, concurrency=4).ask(requests(12), DECODING))
    assert 2 <= books.most_at_once <= 4


def test_retry_after_is_honoured_and_waits_grow(books: Books, url: str) -> None:
    books.script = [(429, {"Retry-After": "7"}, b""), error(500), error(500), error(500)]
    chat = client(url)
    assert [reply.outcome for reply in chat.ask(requests(1), DECODING)] == ["stop"]
    naps = chat._sleep.seconds  # type: ignore[attr-defined]
    assert 7 <= naps[0] <= 7.5
    assert all(0 <= nap <= 0.5 * 2 ** (number + 1) for number, nap in enumerate(naps[1:]))
    assert chat.meter.lost_calls == 0


def test_a_date_in_retry_after() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 18 <= (retry_after({"retry-after": later}) or 0) <= 20
    assert [retry_after({"retry-after": text}) for text in ("soon", "nan", "-3", "")] == [None, None, 0.0, None]
    with pytest.raises(MachineError, match="asks for a wait"):
        retry_after({"retry-after": "86400"})


def test_a_call_that_never_succeeds_is_an_error_without_text(books: Books, url: str) -> None:
    books.fail = 1.0
    books.hang_s = 0.3
    chat = client(url, retries=1, timeout_s=0.2)
    replies = list(chat.ask(requests(8), DECODING))
    assert {(reply.outcome, reply.text) for reply in replies} == {("error", "")}
    assert sum(chat.retried.values()) == 2 * 8
    assert set(books.tries.values()) <= {1, 2}  # a call that times out on its way is not seen by a busy endpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (error(401), "rejects the key"),
        (error(404), "Check its address"),
        ((307, {"Location": "http://elsewhere/"}, b""), "moved to http://elsewhere/"),
        (error(429, code="insufficient_quota"), "quota is used up"),
    ],
)
def test_an_error_that_affects_every_call_stops_all_and_loses_nothing(
    books: Books, url: str, script: tuple[int, dict[str, str], bytes], problem: str
) -> None:
    books.script = [script]
    books.delay_s = 0.05
    came: list[Reply] = []
    with pytest.raises((UserError, MachineError), match=problem):
        came.extend(client(url, concurrency=3).ask(requests(50), DECODING))
    assert len(came) == sum(books.answered.values())
    assert sum(books.tries.values()) <= 6


def test_an_endpoint_that_is_down() -> None:
    with serving(Books()) as url:
        pass
    with pytest.raises(MachineError, match="cannot be reached"):
        list(client(url, retries=2).ask(requests(20), DECODING))


def test_refusals_and_bad_requests_are_distinguished(books: Books, url: str) -> None:
    refusal = {"choices": [{"message": {"content": None, "refusal": "I won't."}, "finish_reason": "stop"}]}
    books.script = [
        (200, {}, completion("x", "q", "content_filter")),
        (200, {}, json.dumps(refusal).encode()),
        error(400, code="content_filter", message="filtered"),
        error(400, message="too long"),
        (200, {}, completion("half", "q", "length")),
    ]
    outcomes = [reply.outcome for reply in client(url, concurrency=1).ask(requests(5), DECODING)]
    assert outcomes == ["refused", "refused", "refused", "error", "length"]


def test_newer_parameter_names_are_learned(books: Books, url: str) -> None:
    books.script = [
        error(400, code="unsupported_parameter", param="max_tokens"),
        error(400, code="unsupported_value", param="temperature"),
    ]
    replies = list(client(url, concurrency=1).ask(requests(3), DECODING))
    assert [reply.outcome for reply in replies] == ["stop"] * 3
    assert books.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}


def test_an_endless_response_is_cut(books: Books, url: str) -> None:
    books.script = [(200, {}, b"x" * (5 * 2**20))]
    chat = client(url, timeout_s=5.0)
    assert [reply.outcome for reply in chat.ask(requests(1), DECODING)] == ["stop"]
    assert chat.retried == {"the response is too large": 1}


def test_the_cost_limit_is_never_passed(books: Books, url: str) -> None:
    price = Price(prompt=1000.0, completion=1000.0)
    one = price.of(worst_case(requests(1)[0].messages, DECODING.max_tokens))
    chat = client(url, price, limit=10 * one)
    came: list[Reply] = []
    with pytest.raises(CostLimitReached, match="max-cost"):
        came.extend(chat.ask(requests(100), DECODING))
    assert chat.meter.spent == pytest.approx(sum(reply.usage.dollars for reply in came))
    assert chat.meter.spent == pytest.approx(len(came) * 52 * 1e-3)
    assert 10 * one - one < chat.meter.spent <= 10 * one
    assert len(came) == sum(books.answered.values())
    assert chat.meter.held == pytest.approx(0.0)


def test_lost_replies_count_against_the_limit(books: Books, url: str) -> None:
    books.script = [(200, {}, b"{")] * 20
    price = Price(completion=1000.0)
    chat = client(url, price, limit=0.5, retries=50)
    with pytest.raises(CostLimitReached, match="lost replies"):
        list(chat.ask(requests(1), DECODING))
    assert len(books.bodies) == 8  # 8 x 60 tokens fit into 500


def test_a_spent_limit_is_an_error_at_once() -> None:
    with pytest.raises(UserError, match="already spent"):
        Meter(Price(1.0, 1.0), 1.0, spent=1.0)


@pytest.mark.parametrize("url", ["ftp://host", "host/v1", "https://", "https://me:pw@host/v1", "https://host/v1?key=x"])
def test_invalid_addresses_are_rejected(url: str) -> None:
    with pytest.raises(UserError):
        address(url, with_key=False)


def test_a_key_stays_off_open_networks() -> None:
    with pytest.raises(UserError, match="unencrypted"):
        address("http://host/v1", with_key=True)
    assert address("http://localhost:8000/v1/", with_key=True) == "http://localhost:8000/v1/chat/completions"
    assert address("https://h/v1/chat/completions", with_key=True) == "https://h/v1/chat/completions"


FIELDS = st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "error", "finish_reason"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner), max_leaves=8))
def test_any_response_is_a_reply_or_a_fault(data: object) -> None:
    request = requests(1)[0]
    for content in (json.dumps(data).encode(), json.dumps({"choices": [{"message": data}], "usage": data}).encode()):
        try:
            reply = understand(200, {}, content, request, DECODING, Price(1.0, 1.0))
        except Fault:
            continue
        assert isinstance(reply.text, str)
        assert 0 <= reply.usage.dollars < 1


def test_a_local_model_answers_the_same_requests() -> None:
    chat = LocalChat(open_backend(ModelConfig(name="fake", backend="fake")))
    one, other = (list(chat.ask(requests(5), DECODING)) for _ in range(2))
    assert one == other
    assert [reply.id for reply in one] == [request.id for request in requests(5)]
    assert len({reply.text for reply in one}) == 5


def test_the_window_starts_at_the_maximum() -> None:
    assert Window(16).size == 16


def test_calls_of_one_burst_halve_the_window_once() -> None:
    window = Window(16)
    calls = [window.start() for _ in range(16)]
    for call in calls:
        window.rejected(call)
    assert window.size == 8
    window.rejected(window.start())
    assert window.size == 4


def test_a_round_of_replies_adds_one() -> None:
    window = Window(16)
    window.rejected(window.start())
    for expected in (9, 10, 11):
        for _ in range(window.size + 1):
            window.answered()
        assert window.size == expected
    for _ in range(1000):
        window.answered()
    assert window.size == 16


@given(st.integers(1, 50), st.lists(st.booleans(), max_size=100))
def test_the_window_stays_between_one_and_the_maximum(most: int, came: list[bool]) -> None:
    window = Window(most)
    for good in came:
        call = window.start()
        window.answered() if good else window.rejected(call)
        assert 1 <= window.size <= most
