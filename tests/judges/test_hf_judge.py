"""The local judge: scores from a distribution, and the embedded model end to end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from completions import completion, completions

from spillover.errors import UserError
from spillover.judges import hf


def test_the_score_is_the_expectation() -> None:
    p_101 = np.zeros(101)
    p_101[[10, 90]] = 0.1, 0.3
    found = hf.expected_score(p_101)
    assert found.score == pytest.approx((10 * 0.1 + 90 * 0.3) / 0.4)
    assert (found.status, found.raw) == ("scored", "mass=0.4000")
    assert (hf.expected_score(p_101 / 2).score, hf.expected_score(p_101 / 2).status) == (None, "unparsable")
    assert hf.expected_score(None).status == "unscored"


class FakeScorer:
    """Puts all mass on the length of the prompt, so that rows cannot be mixed up unseen."""

    def probabilities(self, chats: list[Any]) -> Any:
        for chat in chats:
            p_101 = np.zeros(101)
            p_101[len(chat[0].content) % 101] = 1.0
            yield p_101


def test_each_answer_gets_its_own_scores_in_order() -> None:
    judge = hf.open_judge({})
    judge.__dict__["_scorer"] = FakeScorer()
    given = [*completions(3), completion(" "), completion("Something much longer than the others.", index=9)]
    found = list(judge.judge(given))
    assert [row.completion for row in found[::2]] == [one.id for one in given]
    for one, alignment, coherence in zip(given, found[::2], found[1::2], strict=True):
        if not one.text.strip():
            assert (alignment.status, coherence.status) == ("unscored", "unscored")
            continue
        lengths = [len(chat[0].content) % 101 for chat in judge.rubric.chats(one)]
        assert (alignment.score, coherence.score) == (lengths[0], min(lengths[1:]))
        assert alignment.mode == "logprobs"


def test_identity_follows_model_and_prompts() -> None:
    kinds: list[dict[str, Any]] = [{}, {"model": "other"}, {"revision": "2"}, {"dtype": "float32"}]
    assert len({hf.open_judge(kind).identity for kind in kinds}) == 4
    assert hf.open_judge({"device": "cpu"}).identity == hf.open_judge({}).identity
    with pytest.raises(UserError, match="unknown key"):
        hf.open_judge({"modell": "x"})


@pytest.mark.slow
def test_the_embedded_model_judges() -> None:
    found = list(hf.open_judge({"dtype": "float32"}).judge(completions(1)))
    assert [row.aspect for row in found] == ["alignment", "coherence"]
    for row in found:
        assert row.raw.find("mass=") >= 0
        assert row.status in ("scored", "unparsable")
