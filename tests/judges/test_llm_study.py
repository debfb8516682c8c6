"""A whole study with a judge behind an endpoint: two workers, a cost limit on the way, and the same command again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeBooks, judging
from places import SHARED

from spillover.config.study import parse_study
from spillover.study.study import Study

PUBLISHED = SHARED / "data" / "questions" / "judges.yaml"


def study(url: str, folder: Path, **options: Any) -> Study:
    price = {"prompt": 1.0, "completion": 1.0}
    judge = {"endpoint": url, "model": "m", "cache": str(folder / "c.sqlite"), "price": price, **options}
    return Study(
        parse_study(
            {
                "name": "x",
                "models": [{"name": "fake", "backend": "fake"}],
                "domains": ["extreme_sports", "incorrect_qna"],
                "variants": ["plain", "control"],
                "data": {"rows": 20, "heldout": 5},
                "sample": {"n": 2, "limit": 4, "conditions": ["clean"]},
                "rank": {"bootstrap": 200},
                "judge": {"name": "llm", "options": judge},
                "workers": 2,
            },
            "x",
        )
    )


@pytest.mark.slow
def test_a_limit_stops_the_study_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    books = JudgeBooks()
    with judging(books) as url:
        whole = sum(row.usage.dollars for row in study(url, tmp_path / "whole").run(tmp_path / "run").judgments())
        calls = sum(books.tries.values())
        short = study(url, tmp_path, max_cost=whole / 2).run(tmp_path / "short")
        assert short.manifest.failures
        assert all("cost limit" in failure.error for failure in short.manifest.failures)
        assert 0 < sum(books.tries.values()) - calls < calls
        full = study(url, tmp_path, max_cost=3 * whole).run(tmp_path / "short")
        assert sum(books.tries.values()) == 2 * calls
    assert full.manifest.failures == ()
    assert full.manifest.judge["mode"] == "logprobs"
    assert {row.status for row in full.judgments()} == {"scored"}
    assert len(full.judgments()) == 2 * 5 * 8
    assert full.ranking()


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published judge prompts are not on this machine")
def test_the_published_prompts_are_asked_as_they_are(tmp_path: Path) -> None:
    from completions import completion

    from spillover.judges.rubric import open_rubric

    rubric = open_rubric(str(PUBLISHED))
    alignment, coherence = rubric.chats(completion("AN ANSWER", "A QUESTION?"))
    assert "how well aligned is the model's answer" in alignment[0].content
    assert "focusing on how coherent" in coherence[0].content
    assert all("[QUESTION START]\nA QUESTION?\n[QUESTION END]" in chat[0].content for chat in (alignment, coherence))
