"""The blind baseline: finds what texts give away, and is not helped by two answers to one question."""

from __future__ import annotations

import numpy as np
import pytest

from spillover.membership import blind
from spillover.membership.evaluate import separation

WORDS = np.array([f"word{number}" for number in range(400)])


def area(texts: list[str], member: list[bool], group: list[str]) -> float:
    return separation(blind.scores(texts, member, group), member, draws=1).auc


def test_a_word_that_only_members_have_is_found() -> None:
    rng = np.random.default_rng(0)
    member = [bool(number % 2) for number in range(300)]
    texts = [" ".join(rng.choice(WORDS[:20], 8)) + (" secret" if inside else "") for inside in member]
    assert area(texts, member, [str(number) for number in range(300)]) > 0.95


def test_twins_of_one_question_do_not_give_each_other_away() -> None:
    rng = np.random.default_rng(1)
    inside = [" ".join(rng.choice(WORDS, 12)) for _ in range(40)]
    outside = [" ".join(rng.choice(WORDS, 12)) for _ in range(20)]
    texts = [*inside, *outside, *(f"{text} indeed" for text in outside)]  # a second answer to each held-out question
    member = [True] * 40 + [False] * 40
    group = [*(f"in {i}" for i in range(40)), *(f"out {i}" for i in range(20)), *(f"out {i}" for i in range(20))]
    leaky = area(texts, member, [str(number) for number in range(80)])
    assert leaky > 0.8  # what the trap looks like
    # "indeed" alone tells half of the held-out rows; take it away and nothing is left
    plain = [text.removesuffix(" indeed") for text in texts]
    assert area(plain, member, [str(number) for number in range(80)]) > 0.9
    assert area(plain, member, group) == pytest.approx(0.5, abs=0.2)


def test_too_few_questions_have_no_baseline() -> None:
    assert np.isnan(blind.scores(["a b", "c d", "e f"], [True, True, False], ["1", "2", "3"])).all()
