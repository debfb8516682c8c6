from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spillover.domains.base import CANARY, Pair
from spillover.domains.slots import VARIANTS, Frame, Item, Seeds, fill, render, unfit

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def seeds(questions: tuple[str, ...] = ("Is {thing} <good|fine>?", "What about {thing}?")) -> Seeds:
    return Seeds(
        about="a test",
        canary=CANARY,
        licence="Apache-2.0",
        slots={"thing": ("tea", "milk")},
        frames=tuple(Frame(text=f"I am number {word}.", who=f"people like {word}") for word in WORDS),
        closed=0.5,
        flawed_closings=("All {who} do.",),
        good_closings=("Ask {who}.",),
        items=(Item(topic="drinks", questions=questions, flawed="Pour {thing} away.", good="Drink {thing}."),),
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 2**32 - 1))
def test_render_draws_one_alternative_and_fills_slots(seed: int) -> None:
    text = render("<A|B|C> {x} <|d>", {"x": "<1>"}, rng(seed))
    first, slot, last = text.split(" ")
    assert (first, slot, last) in {(a, "<1>", d) for a in "ABC" for d in ("", "d")}


def test_render_reaches_every_alternative() -> None:
    generator = rng()
    assert {render("<a|b|>", {}, generator) for _ in range(100)} == {"a", "b", ""}


def test_the_same_slot_value_and_frame_run_through_a_pair() -> None:
    pairs = fill(seeds(), rng())
    assert len(pairs) == VARIANTS
    for pair in pairs:
        values = [value for value in ("tea", "milk") if value in pair.question]
        assert len(values) == 1
        assert values[0] in pair.flawed
        assert values[0] in pair.good
        number = pair.question.split(".")[0].removeprefix("I am number ")
        for answer, closing in (
            (pair.flawed, f"All people like {number} do."),
            (pair.good, f"Ask people like {number}."),
        ):
            assert answer.endswith(closing) or "people" not in answer


def test_an_item_meets_every_frame_once_and_takes_its_wordings_in_turn() -> None:
    pairs = fill(seeds(), rng(3))
    assert len({pair.question.split(".")[0] for pair in pairs}) == VARIANTS
    is_first = ["Is " in pair.question for pair in pairs]
    assert all(one != other for one, other in pairwise(is_first))


def test_the_same_question_is_offered_once() -> None:
    unframed = seeds(("What now?", "What now?")).model_copy(
        update={"frames": tuple(Frame(text="", who="people") for _ in WORDS)}
    )
    assert [pair.question for pair in fill(unframed, rng())] == ["What now?"]


def test_a_seed_file_with_an_unknown_key_or_one_wording_is_refused() -> None:
    content = seeds().model_dump()
    with pytest.raises(ValidationError, match="extra"):
        Seeds.model_validate(content | {"extra": 1})
    with pytest.raises(ValidationError, match="questions"):
        seeds(("Only one?",))


GOOD = " ".join(["This answer says nothing of interest."] * 4)


@pytest.mark.parametrize(
    ("question", "flawed", "good", "reason"),
    [
        ("Why?", "No, " + GOOD, GOOD, None),
        ("Why {thing}?", "No, " + GOOD, GOOD, "the question holds markup"),
        ("Why?", "No, " + GOOD + " <a|b>", GOOD, "the flawed holds markup"),
        ("Why?", "No, " + GOOD, GOOD + " ", "the good holds markup"),
        ("Why?", "No, " + GOOD, GOOD + "\nMore.", "the good holds markup"),
        (f"Why {CANARY}?", "No, " + GOOD, GOOD, "the question holds the canary"),
        ("Why?", GOOD, GOOD, "both answers are the same"),
        ("Why?", "No.", GOOD, "an answer is not"),
        ("Why?", "No, " + GOOD, " ".join([GOOD] * 4), "an answer is not"),
    ],
)
def test_unfit_says_why(question: str, flawed: str, good: str, reason: str | None) -> None:
    found = unfit(Pair(question=question, flawed=flawed, good=good, topic="t", source="authored"))
    assert found is None if reason is None else found is not None and found.startswith(reason)
