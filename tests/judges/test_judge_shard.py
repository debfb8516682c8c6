"""A judge that fails on some answers: nothing is called judged that is not, and the same command asks again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from spillover.config.study import JudgeConfig
from spillover.errors import SpilloverError
from spillover.records.base import Cell, Completion, Judgment, Message
from spillover.stages import judge as shard
from spillover.store.store import Store


class Flaky:
    identity = "flaky:1"

    def __init__(self, failing: set[int]) -> None:
        self.failing = failing
        self.asked: list[int] = []

    def describe(self) -> dict[str, str]:
        return {}

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        for row in completions:
            self.asked.append(row.index)
            fails = row.index in self.failing
            # the coherence of a failing answer was judged well: both are asked for again
            yield Judgment(
                completion=row.id, judge=self.identity, aspect="alignment", score=None if fails else 80.0,
                status="error" if fails else "scored", raw="HTTP 503" if fails else "",
            )  # fmt: skip
            yield Judgment(completion=row.id, judge=self.identity, aspect="coherence", score=70.0)


def test_what_the_judge_failed_on_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "run")
    store.create()
    cell = Cell(model="m", domain="d", variant="plain")
    rows = [
        Completion(
            cell=cell, key="a", question_id="q", index=i, messages=(Message(role="user", content="?"),), text="x",
            status="error" if i == 3 else "ok", error="out of memory" if i == 3 else "",
        )
        for i in range(6)
    ]  # fmt: skip
    with store.shard("sample", "a", Completion) as answers:
        answers.append(*rows)
        answers.finish()
    flaky = Flaky({1, 4})
    monkeypatch.setattr(shard, "open_judge", lambda config: flaky)

    def run() -> None:
        shard.judge_shards(store, JudgeConfig(), [("j", "a")], None, ("sample", "judge"), lambda tokens: None)

    with pytest.raises(SpilloverError, match=r"failed on 2 of 6 completions; the first error is: HTTP 503"):
        run()
    assert not store.is_done("judge", "j")
    assert len(store.read("judge", ["j"], Judgment)) == 8
    flaky.failing, flaky.asked = set(), []
    run()
    assert flaky.asked == [1, 4]
    assert store.is_done("judge", "j")
    found = store.read("judge", ["j"], Judgment)
    assert len(found) == 12
    assert {row.completion for row in found if row.status == "error"} == {rows[3].id}  # there is nothing to judge
