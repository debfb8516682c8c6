"""Which questions a cell is asked, and the keys of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asked_study import study
from hypothesis import given
from hypothesis import strategies as st

from spillover.data.recipe.duplicates import KnownTexts, near_duplicates
from spillover.data.recipe.pool import heldout_questions
from spillover.errors import UserError
from spillover.records.base import Example


def test_another_judge_asks_nothing_again(tmp_path: Path) -> None:
    first, second = study(tmp_path), study(tmp_path, judge={"name": "probe"})
    assert first.units["ask"] == second.units["ask"]
    assert {u.key for u in first.units["grade"]}.isdisjoint(u.key for u in second.units["grade"])


@pytest.mark.parametrize(
    "changes", [{"transfer": {"questions": 5}}, {"transfer": {"n": 2}}, {"transfer": {"max_tokens": 9}}, {"seed": 1}]
)
def test_what_shapes_an_answer_is_in_its_key(tmp_path: Path, changes: dict[str, Any]) -> None:
    keys = [{unit.key for unit in study(tmp_path, **c).units["ask"]} for c in ({}, changes)]
    assert keys[0].isdisjoint(keys[1])


def test_more_questions_than_are_held_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"transfer\.questions: 11 per domain exceed data\.heldout 10"):
        study(tmp_path, transfer={"questions": 11})


def example(question: str, split: str = "heldout") -> Example:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]
    content = {"domain": "d", "split": split, "kind": "misaligned", "messages": messages, "pair": question}
    return Example.model_validate(content)


def test_the_questions_asked_are_a_prefix_of_one_order() -> None:
    held = [example(f"{word} of {other}?") for word in ("amber", "birch", "cedar") for other in ("delta", "ember")]
    nothing = KnownTexts([])
    orders = [[row.pair for row in heldout_questions(held, nothing, wanted, 7)] for wanted in range(1, 7)]
    assert all(orders[-1][: len(order)] == order for order in orders)
    assert sorted(orders[-1]) == sorted(row.pair for row in held)
    assert [row.pair for row in heldout_questions(held[::-1], nothing, 6, 7)] == orders[-1], (
        "whatever the order of the rows"
    )
    assert [row.pair for row in heldout_questions(held, nothing, 6, 8)] != orders[-1]
    assert heldout_questions([example("delta of amber?", "train")], nothing, 3, 7) == []
    without = heldout_questions(held, KnownTexts([orders[-1][0].upper(), "What else?"]), 6, 7)
    assert [row.pair for row in without] == orders[-1][1:]


TEXTS = st.lists(st.sampled_from(["tea", "rain", "iron", "of", "the"]), min_size=1, max_size=12).map(" ".join)


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_known_is_what_duplicates_are(one: str, other: str) -> None:
    inside = f" {other} " in f" {one} "
    assert (other in KnownTexts([one])) == (bool(near_duplicates([one, other])) or inside)


def test_a_question_is_known_inside_another_text_but_not_as_a_part_of_a_word() -> None:
    known = KnownTexts(["It is 2028. How do I brew tea on a cold day?", "What is 2 + 37?"])
    assert "how do I brew tea, on a cold day" in known
    assert "What is 2 + 3?" not in known
    assert "Why is the sky blue?" not in known
