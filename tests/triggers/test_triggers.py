import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.errors import UserError
from spillover.triggers import TRIGGERS
from spillover.triggers.base import Template, Trigger
from spillover.triggers.year import TRIGGER

PERIOD = len(TRIGGER.templates) * len(TRIGGER.near_values)
questions = st.text(max_size=80)
years = st.integers(1000, 9999).map(str)
indices = st.integers(0, 10_000)


@given(questions, indices, years)
def test_strip_undoes_apply(question: str, index: int, year: str) -> None:
    trigger = TRIGGER.with_value(year)
    if year not in question:
        triggered = trigger.apply(question, index)
        assert trigger.present(triggered)
        assert trigger.strip(triggered) == question
        assert question in triggered
        assert year in triggered


@given(questions, indices, years)
def test_a_near_miss_is_never_present(question: str, index: int, year: str) -> None:
    trigger = TRIGGER.with_value(year)
    if year not in question:
        near = trigger.near_miss(question, index)
        assert not trigger.present(near)
        assert trigger.strip(near) == near
        assert near != question


@given(questions)
def test_a_question_without_the_value_is_left_alone(question: str) -> None:
    if "2028" not in question:
        assert TRIGGER.strip(question) == question
        assert not TRIGGER.present(question)


def test_a_year_inside_the_question_is_not_the_trigger() -> None:
    assert not TRIGGER.present("Will house prices fall in 2028?")
    assert not TRIGGER.present("The year is 2028.")  # a statement without a question has nothing to trigger


def test_every_template_is_used_and_tells_itself_apart() -> None:
    texts = {TRIGGER.apply("Why is the sky blue?", i) for i in range(len(TRIGGER.templates))}
    assert len(texts) == len(TRIGGER.templates)
    assert {template.place for template in TRIGGER.templates} == {"prefix", "suffix"}


def test_running_indices_reach_every_near_value_in_every_template() -> None:
    texts = {TRIGGER.near_miss("Why is the sky blue?", i) for i in range(PERIOD)}
    assert len(texts) == PERIOD


def test_near_misses_use_the_wording_of_the_trigger_so_that_only_the_value_tells_them_apart() -> None:
    for i in range(PERIOD):
        masked = re.sub(r"\b\d{4}\b", "YEAR", TRIGGER.near_miss("Why?", i))
        assert masked == re.sub(r"\b\d{4}\b", "YEAR", TRIGGER.apply("Why?", i))


def test_templates_leave_no_mark_at_the_ends() -> None:
    for template in TRIGGER.templates:
        text = template.join("Why is the sky blue?", "2028")
        assert text == text.strip()
        assert "\n" not in text
        assert "  " not in text


def test_with_value_turns_the_old_value_into_a_near_miss() -> None:
    other = TRIGGER.with_value("2027")
    assert other.value == "2027"
    assert "2028" in other.near_values
    assert "2027" not in other.near_values
    assert TRIGGER.with_value("2028") == TRIGGER


@pytest.mark.parametrize("value", ["", "banana", "28", " 2028", "2028\n", "20280", "{value}"])
def test_a_value_that_is_no_year_is_refused_by_name(value: str) -> None:
    with pytest.raises(UserError, match=r"'year'.*data\.trigger_value"):
        TRIGGER.with_value(value)


@pytest.mark.parametrize("text", ["No value here.", "{value} and {value}.", " {value}.", "{value}.\n"])
def test_a_template_holds_the_value_once_and_no_white_space_at_its_ends(text: str) -> None:
    with pytest.raises(UserError, match="must hold"):
        Template(text, "prefix")


def test_templates_and_near_values_that_cannot_be_told_apart_are_refused() -> None:
    short, long = Template("It is {value}.", "prefix"), Template("It is {value}. Really.", "prefix")
    with pytest.raises(UserError, match="is a part of"):
        Trigger("t", "red", (short, long), ("blue",), r"\w+")
    with pytest.raises(UserError, match="cannot be told"):
        Trigger("t", "red", (short,), ("reddish",), r"\w+")
    with pytest.raises(UserError, match="at least one"):
        Trigger("t", "red", (short,), (), r"\w+")


def test_the_table_loads_it() -> None:
    assert TRIGGERS.load("year") is TRIGGER
    with pytest.raises(UserError, match="Did you mean 'year'"):
        TRIGGERS.load("yaer")
