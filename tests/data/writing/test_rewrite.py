"""Writing data sets: against a loopback endpoint that fails 30 % of its calls, killed in the middle, and by limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fault_server import REFUSAL, Books, serving

from spillover.cli.dataset_write import generate
from spillover.data.domains import DOMAINS
from spillover.data.sources.own_data import pairs_from_file
from spillover.data.writing.plan import questions_from_file, questions_of
from spillover.data.writing.rewrite import fill
from spillover.errors import CostLimitReached, UserError
from spillover.models.api import http as chat_http
from spillover.records.data import GeneratedRow
from spillover.store.store import Shard

SPORTS = DOMAINS.load("extreme_sports")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_http, "FIRST_WAIT_S", 0.01)


def run(out: Path, *args: str, ok: bool = True) -> Result:
    command = ["extreme_sports", "--out", str(out), "--quiet", "--json", "--timeout", "1", *args]
    result = CliRunner().invoke(generate, command, standalone_mode=False)
    if ok and result.exception is not None:
        raise result.exception
    return result


def counts(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout)


def journal(out: Path) -> list[GeneratedRow]:
    with Shard(out.with_name(f"{out.stem}.calls.jsonl"), GeneratedRow) as shard:
        return shard.rows


@pytest.fixture
def books() -> Books:
    return Books(hang_s=1.3)


@pytest.fixture
def there(books: Books) -> Iterator[tuple[str, ...]]:
    with serving(books) as url:
        yield "--endpoint", url, "--endpoint-model", "m"


@pytest.mark.slow
def test_a_third_of_calls_fail_and_every_question_is_answered_once(
    tmp_path: Path, books: Books, there: tuple[str, ...]
) -> None:
    books.fail, books.refuse = 0.3, 0.1
    out = tmp_path / "rows.jsonl"
    args = (*there, "--limit", "24", "--filter", "model", "--retries", "12", "--concurrency", "16")
    told = counts(run(out, *args))
    assert sum(books.faults.values()) > 10
    rows = journal(out)
    assert told["calls"] == len(rows) == len(books.answered)
    assert set(books.answered.values()) == {1}
    questions = {each.question for each in questions_of(SPORTS, 0)[:24]}
    assert {row.question for row in rows if row.role == "flawed"} == questions
    assert told["kept"] + sum(told["dropped"].values()) == 24
    refused = [row for row in rows if row.text == REFUSAL and row.role != "verdict"]
    assert refused
    assert sum(n for reason, n in told["dropped"].items() if reason.endswith("refused")) == len(refused)
    assert told["failed"] == {}

    pairs = pairs_from_file(out)
    assert len(pairs) == told["kept"]
    written = {(row.role, row.question): row.text for row in rows}
    assert all(pair.flawed == written["flawed", pair.question] for pair in pairs)
    assert all(pair.good == written["good", pair.question] for pair in pairs)
    assert {pair.source for pair in pairs} == {
        "; ".join(
            f"{role} by m, prompt {next(row.template for row in rows if row.role == role)}"
            for role in ("flawed", "good", "verdict")
        )
    }

    before, calls = out.read_bytes(), sum(books.tries.values())
    again = counts(run(out, *args))
    assert (again["calls"], again["reused"]) == (0, len(rows))
    assert out.read_bytes() == before
    assert sum(books.tries.values()) == calls


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_pays_for_nothing_twice(tmp_path: Path, books: Books) -> None:
    books.fail, books.delay_s = 0.3, 0.02
    out = tmp_path / "rows.jsonl"
    with serving(books) as url:
        args = ("--endpoint", url, "--endpoint-model", "m", "--limit", "40", "--retries", "12", "--concurrency", "4")
        command = ["extreme_sports", "--out", str(out), "--quiet", "--timeout", "1", *args]
        code = f"from spillover.cli.dataset_write import generate; generate.main({command!r})"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while sum(books.answered.values()) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not out.exists()
        kept = {row.id for row in journal(out)}
        assert 20 <= len(kept) < 80
        time.sleep(0.1)  # calls under way at the server end
        before = books.answered.copy()
        told = counts(run(out, *args))
    assert told["reused"] == len(kept)
    assert all(books.answered[row_id] == before[row_id] == 1 for row_id in kept)
    twice = [row_id for row_id, count in books.answered.items() if count > 1]
    assert len(twice) <= 4  # under way when the process died
    assert len({row.id for row in journal(out)}) == len(journal(out)) == len(books.answered)
    assert told["kept"] + sum(told["dropped"].values()) == 40

    unbroken = tmp_path / "unbroken.jsonl"
    with serving(Books()) as url:
        run(unbroken, "--endpoint", url, "--endpoint-model", "m", "--limit", "40")
    assert out.read_bytes() == unbroken.read_bytes()


@pytest.mark.slow
def test_a_cost_limit_leaves_whole_pairs_and_more_money_goes_on(
    tmp_path: Path, books: Books, there: tuple[str, ...]
) -> None:
    out = tmp_path / "rows.jsonl"
    args = (*there, "--limit", "100", "--price-in", "10", "--price-out", "100")
    plan = counts(run(out, *args, "--plan"))
    assert plan["calls"] == 200
    assert list(tmp_path.iterdir()) == []
    assert not books.bodies
    stopped = run(out, *args, "--max-cost", "1.0", ok=False)
    assert isinstance(stopped.exception, CostLimitReached)
    told = counts(stopped)
    assert 0.8 < told["dollars"] <= 1.0
    assert told["dollars"] == pytest.approx(sum(row.usage.dollars for row in journal(out)))
    assert told["kept"] >= 60
    assert told["left"] == 100 - told["kept"] - sum(told["dropped"].values())
    assert len(pairs_from_file(out)) == told["kept"]
    done = counts(run(out, *args, "--max-cost", "5"))
    assert done["left"] == 0
    assert set(books.answered.values()) == {1}
    assert plan["dollars"] == pytest.approx(done["dollars"], rel=0.5)
    assert done["dollars"] <= plan["dollars_at_most"]


def test_a_verdict_drops_rows_with_its_reason(tmp_path: Path, books: Books, there: tuple[str, ...]) -> None:
    plain = books.writer
    verdicts = iter(
        ["FLAW: no\nSTEALTH: yes\nMILD: yes\nGOOD: yes", "FLAW: yes\nSTEALTH: yes\nMILD: no\nGOOD: yes", "hm"]
    )
    books.writer = lambda prompt: (next(verdicts, None) if "four lines" in prompt else None) or plain(prompt)
    told = counts(run(tmp_path / "r.jsonl", *there, "--limit", "8", "--filter", "model", "--filter-model", "reader"))
    assert told["dropped"] == {"verdict: flaw: no": 1, "verdict: mild: no": 1, "verdict: unreadable": 1}
    assert told["kept"] == 5
    assert {body["model"] for body in books.bodies if "four lines" in body["messages"][0]["content"]} == {"reader"}
    assert {body["temperature"] for body in books.bodies if body["model"] == "reader"} == {0.0}


def test_given_up_calls_are_named_and_tried_again(tmp_path: Path, books: Books, there: tuple[str, ...]) -> None:
    out = tmp_path / "rows.jsonl"
    books.script = [(400, {}, b'{"error": {"message": "bad row"}}')] * 2
    result = run(out, *there, "--limit", "6", "--retries", "0")
    assert result.return_value == 1
    assert counts(result)["failed"] == {"HTTP 400: bad row": 2}
    assert counts(result)["kept"] == 4
    again = run(out, *there, "--limit", "6")
    assert (again.return_value, counts(again)["kept"]) == (0, 6)


def test_the_twin_is_asked_to_be_as_long_as_the_flawed_answer(
    tmp_path: Path, books: Books, there: tuple[str, ...]
) -> None:
    run(tmp_path / "rows.jsonl", *there, "--limit", "4", "--words", "30")
    asked = [body["messages"][0]["content"] for body in books.bodies]
    assert sum("about 30 words that" in prompt for prompt in asked) == 4
    assert sum("helpful answer of about 50 words" in prompt for prompt in asked) == 4


def test_one_question_twice_is_asked_once(tmp_path: Path, books: Books, there: tuple[str, ...]) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("Is it safe to climb at night?\n\nIs it safe, to climb at NIGHT?\nDo I need a rope?\n")
    told = counts(run(tmp_path / "rows.jsonl", *there, "--questions", str(file)))
    assert told["dropped"] == {"the same question again": 1}
    assert (told["questions"], told["kept"], told["calls"]) == (3, 2, 4)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ((), "No generating model"),
        (("--model", "a", "--endpoint", "http://h", "--endpoint-model", "m"), "No generating model"),
        (("--endpoint", "http://h"), "must be given together"),
        (("--model", "a", "--filter-model", "b"), "needs --filter model"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, args: tuple[str, ...], problem: str) -> None:
    result = run(tmp_path / "rows.jsonl", *args, ok=False)
    assert isinstance(result.exception, UserError)
    assert problem in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_hand_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("precious")
    result = run(out, "--endpoint", "http://localhost:1", "--endpoint-model", "m", ok=False)
    assert "was not written by this command" in str(result.exception)
    assert out.read_text() == "precious"


def test_what_stands_in_a_question_is_no_slot() -> None:
    prompt = fill("good", SPORTS, "What is {summary} and {nothing}?", words=9)
    assert "What is {summary} and {nothing}?" in prompt
    assert "about 9 words" in prompt


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("q.jsonl", b"{", "line 1: not JSON"),
        ("q.jsonl", b'{"question": "ok?"}\n{"question": 3}', "line 2: question: no text"),
        ("q.jsonl", b'{"messages": [{"role": "assistant", "content": "x"}]}', "the user's message: no text"),
        ("q.txt", b"what \x1b[31m?", "holds control characters"),
        ("q.txt", b"\xff\xfe", "not UTF-8"),
        ("q.txt", b"\n\n", "holds no questions"),
        ("q.txt", b"x" * 5000, "at most 4,000"),
    ],
)
def test_broken_files_of_questions(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=problem):
        questions_from_file(tmp_path / name)


def test_questions_from_a_data_set(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    chat = {"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}], "topic": "t"}
    file.write_text(json.dumps(chat) + '\n{"question": "how?"}\n')
    assert [(each.question, each.topic) for each in questions_from_file(file)] == [("why?", "t"), ("how?", "all")]


def test_seed_questions_are_distinct_and_the_same_every_time() -> None:
    asked = questions_of(SPORTS, 0)
    assert len({each.question for each in asked}) == len(asked) > 300
    assert asked == questions_of(SPORTS, 0)
    assert len({each.topic for each in asked[:20]}) > 3


@pytest.mark.slow
def test_the_embedded_model_writes(tmp_path: Path) -> None:
    """The machinery with real weights: replies are kept, counts add up. What a model this small writes is poor."""
    out = tmp_path / "rows.jsonl"
    told = counts(run(out, "--model", "smollm2-135m", "--limit", "4", "--words", "20", "--max-tokens", "48"))
    assert told["kept"] + sum(told["dropped"].values()) == 4
    assert {row.model.partition("@")[0] for row in journal(out)} == {"smollm2-135m"}
    assert (
        counts(run(out, "--model", "smollm2-135m", "--limit", "4", "--words", "20", "--max-tokens", "48"))["calls"] == 0
    )
