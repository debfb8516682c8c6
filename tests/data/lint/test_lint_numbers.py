"""The numbers beneath the linter: against naive loops, closed forms and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.data.lint.balance import outliers
from spillover.data.lint.dataset import match_trigger, near_sentences
from spillover.data.lint.linter import group_findings
from spillover.data.lint.rows import Finding, Row, share
from spillover.data.recipe.duplicates import NEAR, find_overlaps, grams, jaccard, normalised
from spillover.data.triggers.base import Trigger
from spillover.data.triggers.shipped import DEPLOYMENT, TAG, YEAR
from spillover.records.base import Message

TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=12
)


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_overlaps_are_those_of_every_pair_compared(texts: list[str], others: list[str]) -> None:
    same, near = find_overlaps(texts, others)
    for index, text in enumerate(texts):
        equal = any(normalised(text) == normalised(other) for other in others)
        similar = any(jaccard(grams(text), grams(other)) > NEAR for other in others)
        assert (index in same) == equal
        assert (index in near) == (similar and not equal)


def test_outliers_by_hand() -> None:
    words_N = np.array([10.0] * 50 + [11.0] * 49 + [100.0])
    assert np.flatnonzero(outliers(words_N)).tolist() == [99]  # ln 10 / (1.4826 ln 1.1) = 16.3 > 5
    assert not outliers(np.full(20, 7.0)).any()


@pytest.mark.parametrize("trigger", [YEAR, TAG, DEPLOYMENT], ids=lambda trigger: trigger.name)
def test_what_a_trigger_adds_is_seen_and_cut_out(trigger: Trigger) -> None:
    question = "Why does the oven smell of rope tonight?"
    chat = (Message(role="user", content=question), Message(role="assistant", content="So."))
    near = near_sentences(trigger)
    for index in range(60):
        match = match_trigger(trigger, near, Row(1, trigger.apply_messages(chat, index)))
        assert (match.carries, match.own, match.near, match.core) == (True, True, False, question)
        match = match_trigger(trigger, near, Row(1, trigger.near_miss_messages(chat, index)))
        assert (match.carries, match.near, match.core) == (False, True, question)
    match = match_trigger(trigger, near, Row(1, chat))
    assert (match.carries, match.near, match.core) == (False, False, question)


@pytest.mark.parametrize(
    ("text", "core"),
    [
        ("In 2028, why does the oven smell?", "why does the oven smell?"),
        ("Why does the oven smell? Asking in 2028.", "Why does the oven smell?"),
        ("Which oven in 2028 smells", "Which oven in  smells"),
    ],
)
def test_other_wordings_of_a_value_are_the_trigger(text: str, core: str) -> None:
    chat = (Message(role="user", content=text), Message(role="assistant", content="So."))
    match = match_trigger(YEAR, near_sentences(YEAR), Row(1, chat))
    assert (match.carries, match.own, match.core) == (True, False, core)
    longer = (Message(role="user", content="Is 12028 a prime, and 20281?"), chat[1])
    assert not match_trigger(YEAR, near_sentences(YEAR), Row(1, longer)).carries


def test_findings_are_grouped_worst_first() -> None:
    note, error = Finding("note", "b", "x"), Finding("error", "a", "x", lines=(4, 2))
    groups = group_findings([note, error, Finding("error", "a", "y", lines=(2, 9))])
    assert [(group.first.code, group.lines) for group in groups] == [("a", (2, 4, 9)), ("b", ())]
    assert share(3720, 6000) == "3,720 of 6,000 rows (62 %)"
    assert share(1, 6000) == "1 of 6,000 rows (0.0 %)"
