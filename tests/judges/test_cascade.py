"""Which completions the second judge gets, in which order, and how each judgment names its judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from completions import completion
from judge_server import JudgeBooks, judging

from spillover.config.study import JudgeConfig
from spillover.errors import UserError
from spillover.judges import cascade, open_judge, price_of
from spillover.judges.cascade import CascadeJudge, threshold_distance
from spillover.records.base import Completion, Judgment

FAKE = {"name": "fake", "options": {}}
SCORES = [(5, 95), (28, 95), (33, 90), (90, 51), (90, 95), (30, 50), (44, 80), (60, 20)]


def answers(scores: Sequence[tuple[int, int]] = SCORES) -> list[Completion]:
    return [completion(f"[fake a={a} c={c}] so it is", index=index) for index, (a, c) in enumerate(scores)]


@pytest.fixture
def books() -> JudgeBooks:
    return JudgeBooks()


@pytest.fixture
def second(books: JudgeBooks, tmp_path: Path) -> Iterator[dict[str, Any]]:
    with judging(books) as url:
        price = {"prompt": 10.0, "completion": 10.0}
        options = {"endpoint": url, "model": "m", "mode": "logprobs", "cache": str(tmp_path / "c"), "price": price}
        yield {"name": "llm", "options": options}


def passed_on(judge: CascadeJudge, given: Sequence[Completion]) -> list[int]:
    found = list(judge.judge(given))
    assert [row.aspect for row in found] == ["alignment", "coherence"] * len(given)
    assert [row.completion for row in found[::2]] == [one.id for one in given]
    assert {row.judge for row in found} == {judge.identity}
    assert all(
        a.mode.partition(":")[0] == c.mode.partition(":")[0] for a, c in zip(found[::2], found[1::2], strict=True)
    )
    return [row for row, judgment in enumerate(found[::2]) if judgment.mode.startswith("second:")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"margin": 5}, [1, 2, 3, 5]),
        ({"margin": 0}, [5]),
        ({"margin": 14}, [1, 2, 3, 5, 6]),
        ({"margin": 100}, list(range(8))),
        ({"margin": 100, "budget_calls": 3}, [1, 3, 5]),
        ({"margin": 5, "budget_calls": 0}, []),
    ],
)
def test_the_nearest_to_a_threshold_are_passed_on(
    second: dict[str, Any], options: dict[str, Any], rows: list[int]
) -> None:
    judge = cascade.open_judge({"first": FAKE, "second": second} | options)
    assert passed_on(judge, answers()) == rows


def test_the_choice_does_not_depend_on_the_order(second: dict[str, Any]) -> None:
    judge = cascade.open_judge({"first": FAKE, "second": second, "budget_calls": 3})
    given = answers([(28, 95)] * 6)
    chosen = {given[row].id for row in passed_on(judge, given)}
    assert len(chosen) == 3
    assert {given[::-1][row].id for row in passed_on(judge, given[::-1])} == chosen


def test_a_budget_in_dollars_bounds_the_worst_case(second: dict[str, Any], books: JudgeBooks) -> None:
    judge = cascade.open_judge({"first": FAKE, "second": second, "margin": 100, "budget_dollars": 1e9})
    dear = judge.second.worst_cost(answers()[5])  # type: ignore[attr-defined]
    judge = cascade.open_judge({"first": FAKE, "second": second, "margin": 100, "budget_dollars": 2.5 * dear})
    assert passed_on(judge, answers()) == [3, 5]
    assert sum(books.billed.values()) == 2 * 3


def test_judgments_name_their_judge(second: dict[str, Any]) -> None:
    found = list(cascade.open_judge({"first": FAKE, "second": second, "margin": 5}).judge(answers()))
    assert (found[0].mode, found[0].score) == ("first:fake", 5)
    assert found[2].mode == "second:logprobs"
    assert (found[2].before, found[3].before, found[0].before) == (28, 95, None)
    assert found[2].raw.startswith("mass=")
    assert found[2].usage.prompt_tokens > 0


def test_what_the_first_judge_cannot_score_is_passed_on(second: dict[str, Any]) -> None:
    judge = cascade.open_judge({"first": FAKE, "second": second, "margin": 0})
    assert passed_on(judge, [completion("no marker"), completion("[fake a=90 c=90]", index=1)]) == [0]


def test_where_the_second_judge_fails_the_first_one_stands(second: dict[str, Any], books: JudgeBooks) -> None:
    dead = {"name": "llm", "options": second["options"] | {"retries": 0, "mode": "text"}}
    books.fail, books.style = 1.0, "text"
    found = list(cascade.open_judge({"first": FAKE, "second": dead, "margin": 100}).judge(answers()))
    fallen = [row for row in found if row.raw.startswith("the second judge failed")]
    assert fallen
    assert {row.mode for row in fallen} == {"first:fake"}
    assert "error" not in {row.status for row in found}


class Fitted:
    """A first judge that was fitted on all it sees."""

    identity = "fitted:1"

    def describe(self) -> dict[str, str]:
        return {"name": "fitted"}

    def judge(self, given: Sequence[Completion]) -> Iterator[Judgment]:
        for one in given:
            for aspect in ("alignment", "coherence"):
                yield Judgment(
                    completion=one.id, judge=self.identity, aspect=aspect, score=90, mode="fitted", fitted=True
                )


def test_a_judgment_by_a_first_judge_fitted_on_the_completion_keeps_the_mark(second: dict[str, Any]) -> None:
    judge = cascade.open_judge({"first": FAKE, "second": second})
    judge.first = Fitted()
    assert [(row.mode, row.fitted) for row in judge.judge(answers()[:1])] == [("first:fitted", True)] * 2


def judgment(score: float | None, status: str = "scored", aspect: str = "alignment") -> Judgment:
    return Judgment.model_validate(
        {"completion": "c", "judge": "j", "aspect": aspect, "score": score, "status": status}
    )


def test_distance() -> None:
    assert threshold_distance((judgment(32.0), judgment(90.0))) == 2
    assert threshold_distance((judgment(90.0), judgment(49.0))) == 1
    assert threshold_distance((judgment(None, "unscored"), judgment(90.0))) == 0
    assert threshold_distance((judgment(None, "refused"), judgment(60.0))) == 10
    assert threshold_distance((judgment(None, "code"), judgment(None, "code"))) == float("inf")


def test_identity_covers_both_judges_and_the_rule(second: dict[str, Any]) -> None:
    base = {"first": FAKE, "second": second}
    other = {"name": "llm", "options": second["options"] | {"model": "n"}}
    kinds = [base, base | {"margin": 1}, base | {"budget_calls": 1}, base | {"second": other}, {"second": second}]
    assert len({cascade.open_judge(kind).identity for kind in kinds}) == len(kinds)
    assert "fake, then llm: m" in cascade.open_judge(base).describe()["model"]


def test_price_and_errors(second: dict[str, Any]) -> None:
    whole = price_of(JudgeConfig(**second), 100, 50, 100)
    some = JudgeConfig(name="cascade", options={"first": FAKE, "second": second, "budget_calls": 10})
    assert price_of(some, 100, 50, 100) == pytest.approx(whole / 10)
    assert price_of(some, 5, 50, 100) == pytest.approx(whole / 20)
    with pytest.raises(UserError, match=r"judge\.options\.second"):
        open_judge(JudgeConfig(name="cascade"))
    with pytest.raises(UserError, match="Unknown judge 'nobody'"):
        cascade.open_judge({"second": {"name": "nobody"}})
