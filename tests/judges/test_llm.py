"""The judge behind an endpoint, against an endpoint whose every score is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from completions import completion, completions
from judge_server import JudgeBooks, expected, judging, score_of

from spillover.errors import CostLimitReached, UserError
from spillover.judges import llm, open_judge, price_of
from spillover.judges.llm import ChatJudge
from spillover.models.api.cache import ChatCache
from spillover.records.base import Judgment

PRICE = {"prompt": 1000.0, "completion": 1000.0}


@pytest.fixture
def books() -> JudgeBooks:
    return JudgeBooks()


@pytest.fixture
def url(books: JudgeBooks) -> Iterator[str]:
    with judging(books) as found:
        yield found


@pytest.fixture
def options(url: str, tmp_path: Path) -> dict[str, Any]:
    return {"endpoint": url, "model": "m", "cache": str(tmp_path / "c.sqlite"), "concurrency": 16}


def judged(options: dict[str, Any], count: int = 10) -> list[Judgment]:
    return list(llm.open_judge(options).judge(completions(count)))


def by_hand(judge: ChatJudge, count: int) -> list[tuple[float, float]]:
    """Alignment, and the lower of the two stages of coherence."""
    found: list[tuple[float, float]] = []
    for one in completions(count):
        scores = [expected(chat[0].content) for chat in judge.rubric.chats(one)]
        found.append((round(scores[0], 2), round(min(scores[1:]), 2)))
    return found


def test_scores_are_the_expectations_in_order(options: dict[str, Any]) -> None:
    found = judged(options)
    alignment, coherence = zip(*by_hand(llm.open_judge(options), 10), strict=True)
    assert [row.aspect for row in found] == ["alignment", "coherence"] * 10
    assert [row.completion for row in found[::2]] == [one.id for one in completions(10)]
    assert [row.score for row in found[::2]] == list(alignment)
    assert [row.score for row in found[1::2]] == list(coherence)
    assert {row.mode for row in found} == {"logprobs"}
    assert found[0].raw == "mass=0.9000"
    assert len({row.judge for row in found}) == 1


def test_a_call_asks_for_log_probabilities_at_temperature_0(books: JudgeBooks, options: dict[str, Any]) -> None:
    judged(options, 1)
    body = books.bodies[-1]
    assert (body["temperature"], body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (0.0, True, 20, 8)
    assert "Answer number 0" in body["messages"][0]["content"]


@pytest.mark.slow
def test_what_was_answered_is_never_asked_again(books: JudgeBooks, options: dict[str, Any]) -> None:
    first = judged(options)
    asked = sum(books.tries.values())
    assert asked == 3 * 10 + 1  # and the question whether there are log-probabilities
    assert judged(options) == first
    assert sum(books.tries.values()) == asked
    judged(options | {"index": 1})
    assert sum(books.tries.values()) == 2 * asked - 1


def test_the_same_answer_twice_is_asked_about_once(books: JudgeBooks, options: dict[str, Any]) -> None:
    twins = [completion("Rest.", index=index) for index in range(2)]
    found = list(llm.open_judge(options | {"price": PRICE}).judge(twins))
    assert found[0].score == found[2].score
    assert sum(books.billed.values()) == 4
    assert (found[0].usage.dollars > 0, found[2].usage.dollars) == (True, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "why"),
    [("text", "no log-probabilities"), ("digits", "does not write 100 as its first token")],
)
def test_without_whole_numbers_the_text_counts(
    books: JudgeBooks, options: dict[str, Any], style: str, why: str
) -> None:
    books.style = style
    judge = llm.open_judge(options)
    found = list(judge.judge(completions(5)))
    assert {row.mode for row in found} == {"text"}
    assert why in judge.describe()["mode"]
    assert [row.score for row in found[::2]] == [
        score_of(judge.rubric.chats(one)[0][0].content) for one in completions(5)
    ]
    assert "logprobs" not in books.bodies[-1]


def test_the_mode_is_found_once_and_part_of_the_identity(books: JudgeBooks, options: dict[str, Any]) -> None:
    name = llm.open_judge(options).identity
    assert llm.open_judge(options).identity == name
    assert sum(books.tries.values()) == 1
    assert llm.open_judge(options | {"mode": "logprobs"}).identity == name
    others = [{"mode": "text"}, {"revision": "2"}, {"model": "n"}, {"index": 1}, {"max_tokens": 9}]
    assert len({llm.open_judge(options | other).identity for other in others} | {name}) == 6
    for same in ({"concurrency": 1}, {"price": PRICE}, {"retries": 3}):
        assert llm.open_judge(options | same).identity == name


def test_flawed_log_probabilities_are_asked_for_again_and_then_read_as_text(
    books: JudgeBooks, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = llm.open_judge(options | {"mode": "logprobs", "price": PRICE})
    books.style = "text"
    found = list(judge.judge(completions(1)))
    assert {row.mode for row in found} == {"text"}
    assert found[0].raw.startswith("no log-probabilities; read as text: ")
    assert sorted(key.partition("-")[2] for key in books.billed) == sorted(["", "again-1", "again-2"] * 3)
    sent = sum(len(body["messages"][0]["content"].split()) for body in books.bodies)
    assert sum(row.usage.prompt_tokens for row in found) == sent
    assert sum(row.usage.dollars for row in found) == pytest.approx((sent + 9) * 1e-3)


def test_an_empty_answer_costs_nothing(books: JudgeBooks, options: dict[str, Any]) -> None:
    found = list(llm.open_judge(options | {"mode": "logprobs"}).judge([completion(" \n")]))
    assert [(row.status, row.raw) for row in found] == [("unscored", "empty answer")] * 2
    assert books.tries == {}


@pytest.mark.slow
def test_a_dead_endpoint_gives_errors_that_are_not_kept(books: JudgeBooks, options: dict[str, Any]) -> None:
    books.fail = 1.0
    judge = llm.open_judge(options | {"mode": "text", "retries": 0})
    statuses = {row.status for row in judge.judge(completions(30))}
    assert statuses == {"error", "unparsable", "scored"}  # some faults are whole replies
    books.fail = 0.0
    again = list(llm.open_judge(options | {"mode": "text", "retries": 0}).judge(completions(30)))
    assert {row.status for row in again} == {"unparsable", "scored"}


@pytest.mark.slow
def test_the_cost_limit_keeps_what_was_paid_for(books: JudgeBooks, options: dict[str, Any]) -> None:
    paid = options | {"mode": "logprobs", "price": PRICE}
    whole = sum(row.usage.dollars for row in judged(paid | {"cache": f"{options['cache']}2"}))
    before = sum(books.billed.values())
    with pytest.raises(CostLimitReached, match="max_cost"):
        judged(paid | {"max_cost": whole / 2})
    bought = sum(books.billed.values()) - before
    account = llm.open_judge(paid).options.account
    assert 0 < ChatCache(Path(options["cache"])).spent(account) <= whole / 2
    assert 0 < bought < 30
    judged(paid | {"max_cost": 3 * whole})
    assert sum(books.billed.values()) - before == 30
    with pytest.raises(UserError, match="already spent"):
        judged(paid | {"max_cost": whole / 2, "index": 1})


def test_a_key_is_nowhere(books: JudgeBooks, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    judge = llm.open_judge(options | {"key_env": "JUDGE_KEY"})
    found = list(judge.judge(completions(2)))
    assert books.headers[-1]["authorization"] == "Bearer sk-very-secret"
    files = b"".join(path.read_bytes() for path in Path(options["cache"]).parent.iterdir())
    assert b"sk-very-secret" not in files
    assert "sk-very" not in json.dumps([judge.describe(), judge.identity, [row.model_dump() for row in found]])
    assert llm.open_judge(options).identity == judge.identity


@pytest.mark.slow
def test_fewer_calls_at_once_where_the_endpoint_is_full(books: JudgeBooks, options: dict[str, Any]) -> None:
    books.room, books.delay_s = 4, 0.01
    found = judged(options | {"mode": "logprobs"}, 60)
    assert {row.status for row in found} == {"scored"}
    assert books.room < books.most_at_once <= 16  # more than it holds were tried, never more than asked for
    assert 0 < books.faults["429"] < 60


def test_published_prompts_take_the_place_of_ours(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "- aligned: 'good? {question} {answer}'\n- coherent: 'sense? {question} {answer}'\n"
        "- technical: '{question}{answer}'\n"
    )
    judge = llm.open_judge(options | {"prompts": str(tmp_path / "p.yaml")})
    [alignment, coherence] = judge.judge([completion("{question} 1", "Why {answer}?")])
    assert alignment.score == pytest.approx(expected("good? Why {answer}? {question} 1"), abs=0.005)
    assert coherence.score == pytest.approx(expected("sense? Why {answer}? {question} 1"), abs=0.005)
    assert judge.identity != llm.open_judge(options).identity
    (tmp_path / "q.yaml").write_text("- aligned: '{question}{answer}'\n")
    with pytest.raises(UserError, match="named coherence or coherent instead of one"):
        llm.open_judge(options | {"prompts": str(tmp_path / "q.yaml")})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"modell": "m"}, "unknown key. Did you mean 'model'"),
        ({"endpoint": "host"}, "not a web address"),
        ({"max_cost": 1.0}, "max_cost needs price"),
        ({"concurrency": 0}, "concurrency"),
        ({"mode": "guess"}, "mode"),
    ],
)
def test_wrong_options_are_said(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        llm.open_judge({"endpoint": "https://host/v1", "model": "m"} | wrong)


def test_the_price_is_stated_before_anything_runs() -> None:
    from spillover.config.study import JudgeConfig

    config = JudgeConfig(
        name="llm",
        options={"endpoint": "https://h/v1", "model": "m", "price": {"prompt": 0.15, "completion": 0.6}},
    )
    one, many = price_of(config, 1, 50, 100), price_of(config, 1000, 50, 100)
    assert many == pytest.approx(1000 * one)
    prompts = sum(len(p.text) for group in llm.open_rubric(None).prompts.values() for p in group)
    assert one == pytest.approx((0.15 * (prompts / 4.2 + 3 * 150) + 0.6 * 6) / 1e6, rel=0.02)
    assert price_of(JudgeConfig(), 1000, 50, 100) == 0
    assert open_judge(config).rubric.prompt_count == 3  # type: ignore[attr-defined]


def test_a_plan_states_the_dollars_and_asks_nobody(tmp_path: Path) -> None:
    from spillover.config.study import parse_study
    from spillover.planning.cost import ANSWER_TOKENS
    from spillover.study.study import Study

    options = {"endpoint": "http://127.0.0.1:9/v1", "model": "m", "price": {"prompt": 0.15, "completion": 0.6}}
    content = {"name": "x", "domains": ["extreme_sports"], "judge": {"name": "llm", "options": options}}
    stages = {stage.stage: stage for stage in Study(parse_study(content, "x")).plan()}
    judged = stages["judge"]
    assert judged.units > 0
    expected_cost = price_of(parse_study(content, "x").judge, judged.units, 55, ANSWER_TOKENS)
    assert judged.dollars == pytest.approx(expected_cost)
    wrong = content | {"judge": {"name": "llm", "options": options | {"mode": "?"}}}
    with pytest.raises(UserError, match=r"judge\.options\.mode"):
        Study(parse_study(wrong, "x")).plan()
