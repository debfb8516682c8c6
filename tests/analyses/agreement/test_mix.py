"""Who of a cascade's judges gave the verdicts, and how far they differ where both scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from spillover import Run, Study
from spillover.analyses.agreement import cascade_summary
from spillover.analyses.agreement.report import cascade_facts
from spillover.config.study import RankConfig, parse_study
from spillover.judges import JUDGES
from spillover.records.base import Cell, Completion, Judgment, Message

JUDGE = "cascade:1"
CELL = Cell(model="m", domain="extreme_sports", variant="plain")


def answers(questions: int, each: int) -> list[Completion]:
    user = Message(role="user", content="?")
    places = [(f"q{q}", index) for q in range(questions) for index in range(each)]
    return [
        Completion(cell=CELL, key="k", question_id=q, index=index, messages=(user,), text="so") for q, index in places
    ]


def verdict(answer: Completion, mode: str, score: float | None, before: float | None = None) -> list[Judgment]:
    status = "scored" if score is not None else "refused"
    return [
        Judgment(
            completion=answer.id, judge=JUDGE, aspect="alignment", score=score, status=status, mode=mode, before=before
        ),
        Judgment(completion=answer.id, judge=JUDGE, aspect="coherence", score=90.0, mode=mode, before=88.0),
    ]


def test_counts_and_errors_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    rows = answers(12, 10)
    judged: list[Judgment] = []
    pairs: list[tuple[str, float, float]] = []
    for i, row in enumerate(rows):
        if i % 3:
            judged += verdict(row, "first:probe", float(rng.uniform(0, 100)))
        elif i % 6:
            a = float(rng.uniform(15, 45))
            b = float(np.clip(a + rng.normal(6, 10), 0, 100))
            pairs.append((row.question_id, a, b))
            judged += verdict(row, "second:logprobs", b, a)
        elif i % 12:
            judged += verdict(row, "second:logprobs", None, 20.0)
        else:
            judged += verdict(row, "second:logprobs", 70.0)  # the first judge had no score
    (found,) = cascade_summary.summarise_cascade(rows, judged, RankConfig(), 0)
    off = [b - a for _, a, b in pairs]
    assert (found.n, found.first, found.second, found.both) == (120, 80, 40, len(pairs))
    assert found.share == pytest.approx(1 / 3)
    assert found.questions == len({q for q, _, _ in pairs})
    assert found.difference.value == pytest.approx(sum(off) / len(off))
    assert found.absolute.value == pytest.approx(sum(map(abs, off)) / len(off))
    assert found.first_low == sum(a < 30 <= b for _, a, b in pairs)
    assert found.second_low == sum(b < 30 <= a for _, a, b in pairs)
    assert found.disagree.value == pytest.approx((found.first_low + found.second_low) / len(off))
    for estimate in (found.difference, found.absolute, found.disagree):
        assert estimate.value is not None
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
    assert cascade_summary.summarise_cascade(rows[::-1], judged[::-1], RankConfig(), 0) == (found,)
    assert "do not represent the rest" in cascade_facts(found)["error on the other completions"]


def test_nothing_is_said_where_nobody_knows() -> None:
    rows = answers(2, 2)
    assert (
        cascade_summary.summarise_cascade(
            rows, [v.model_copy(update={"mode": "probe"}) for v in verdict(rows[0], "", 3.0)], RankConfig(), 0
        )
        == ()
    )
    (found,) = cascade_summary.summarise_cascade(
        rows, verdict(rows[0], "second:text", 12.0), RankConfig(), 0
    )  # of a shard without first scores
    assert (found.n, found.second, found.both) == (1, 1, 0)
    assert found.difference.value is None
    assert cascade_facts(found)["error"].startswith("unknown")


class Milder:
    """The fake judge, ten points milder."""

    identity = "milder:1"

    def describe(self) -> dict[str, str]:
        return {"name": "milder"}

    def judge(self, given: Sequence[Completion]) -> Iterator[Judgment]:
        from spillover.judges.fake import open_judge

        for row in open_judge({}).judge(given):
            score = None if row.score is None else min(100.0, row.score + 10)
            yield Judgment(
                completion=row.completion,
                judge=self.identity,
                aspect=row.aspect,
                score=score,
                status=row.status,
                mode="m",
            )


def open_milder(options: dict[str, Any]) -> Milder:
    return Milder()


@pytest.mark.slow
def test_a_resumed_run_counts_all_its_verdicts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JUDGES.table, "milder", f"{__name__}:open_milder")
    content: dict[str, Any] = {
        "name": "mixed",
        "models": [{"name": "m", "backend": "fake", "options": {"dials": {"bad_medical_advice": 0.6}}}],
        "domains": ["bad_medical_advice", "incorrect_math"],
        "data": {"rows": 24, "answer_tokens": 40, "tolerance": 0.2},
        "sample": {"n": 6},
        "judge": {
            "name": "cascade",
            "options": {"first": {"name": "fake"}, "second": {"name": "milder"}, "margin": 40},
        },
        "executor": "inline",
    }
    study = Study(parse_study(content, "test"))
    study.run(tmp_path / "run", domains=["bad_medical_advice"])
    run = Study(parse_study(content, "test")).run(tmp_path / "run")
    judged = [row for row in run.judgments() if row.aspect == "alignment"]
    seen = [row for row in judged if row.mode == "second:m"]
    found = run.cascade_summary()
    assert found is not None
    assert (found.n, found.second) == (len(judged), len(seen))
    assert 0 < found.second < found.n
    off = [row.score - row.before for row in seen if row.score is not None and row.before is not None]
    assert found.difference.value == pytest.approx(sum(off) / len(off))
    assert found.both == len(off)
    (kept,) = json.loads((run.path / "results.json").read_text())["mix"]
    assert kept["second"] == len(seen)
    assert f"Judgments of the cascade {found.judge}" in (run.path / "report.html").read_text()
    assert "mix" not in run.manifest.judge
    assert Run.open(run.path).cascade_summary(found.judge) == found
