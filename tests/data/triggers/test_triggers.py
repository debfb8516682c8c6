"""Every shipped trigger keeps its promises on any text: strip undoes apply, and what is near is never present."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.data.triggers import TRIGGERS
from spillover.data.triggers.base import PLACES, Sentence, Template, Trigger
from spillover.data.triggers.shipped import YEAR
from spillover.errors import UserError
from spillover.records.base import Message

SHIPPED = [TRIGGERS.load(name) for name in TRIGGERS.names()]
PERIOD = 2 * len(YEAR.templates) * len(YEAR.near_values)
questions = st.text(max_size=80) | st.text(alphabet="ab .\n|2083", max_size=60)
years = st.integers(1000, 9999).map(str)
indices = st.integers(0, 10_000)
words = st.text(alphabet="ab .|", min_size=1, max_size=6).filter(lambda word: word == word.strip())


@st.composite
def conversations(draw):
    system = draw(st.none() | questions)
    turns = [Message(role="user", content=draw(questions))]
    if draw(st.booleans()):
        turns += [Message(role="assistant", content=draw(questions)), Message(role="user", content=draw(questions))]
    if draw(st.booleans()):
        turns.append(Message(role="assistant", content=draw(questions)))
    return tuple(turns if system is None else [Message(role="system", content=system), *turns])


@st.composite
def triggers(draw):
    """Small triggers over a tiny alphabet, so that sentences, values and questions run into one another."""
    text = st.tuples(st.sampled_from(["", "a ", "b.", "|"]), st.sampled_from(["", " a", ".b", "|", "."]))
    templates = tuple(
        Template("{value}".join(draw(text)).strip(), draw(st.sampled_from(PLACES)))
        for _ in range(draw(st.integers(1, 4)))
    )
    value, near = draw(words), draw(words)
    try:
        return Trigger("drawn", value, templates, (near,), r"(?s).+")
    except UserError:
        return None


@given(questions, indices, st.sampled_from(SHIPPED))
def test_strip_undoes_apply(question: str, index: int, trigger: Trigger) -> None:
    if trigger.value not in question:
        triggered = trigger.apply(question, index)
        assert trigger.present(triggered)
        assert trigger.strip(triggered) == question
        assert not trigger.present(question)
        assert trigger.strip(question) == question


@given(questions, indices, st.sampled_from(SHIPPED))
def test_a_near_miss_is_never_present(question: str, index: int, trigger: Trigger) -> None:
    if trigger.value not in question:
        near = trigger.near_miss(question, index)
        assert not trigger.present(near)
        assert trigger.strip(near) == near
        assert near != question


@given(conversations(), indices, st.sampled_from(SHIPPED))
def test_the_same_holds_of_conversations(messages, index: int, trigger: Trigger) -> None:
    if not any(trigger.value in message.content for message in messages):
        triggered = trigger.apply_messages(messages, index)
        assert trigger.present_in(triggered)
        assert trigger.strip_messages(triggered) == messages
        assert trigger.strip_messages(messages) == messages
        near = trigger.near_miss_messages(messages, index)
        assert near != messages
        assert not trigger.present_in(near)


@given(questions, conversations(), indices, triggers())
def test_whatever_can_be_made_keeps_the_promises(question: str, messages, index: int, trigger: Trigger | None) -> None:
    """What the constructor lets through is sound: it refuses all that could be ambiguous."""
    if trigger is None:
        return
    if trigger.value not in question:
        assert trigger.strip(trigger.apply(question, index)) == question
        assert not trigger.present(trigger.near_miss(question, index))
    if not any(trigger.value in message.content for message in messages):
        assert trigger.strip_messages(trigger.apply_messages(messages, index)) == messages


@given(st.text(max_size=60), st.sampled_from(PLACES))
def test_every_place_adds_the_sentence_once_and_takes_it_away(question: str, place) -> None:
    sentence = Sentence("<<mark>>", place)
    joined = sentence.join(question)
    assert joined.count("<<mark>>") == 1
    assert sorted(joined.replace(sentence.block, "", 1)) == sorted(question)
    assert sentence.split(joined) == question
    assert sentence.split(question) is None


def test_places_are_where_they_say() -> None:
    made = {place: Sentence("S.", place).join("Why is it so?") for place in PLACES}
    assert made == {
        "prefix": "S. Why is it so?",
        "suffix": "Why is it so? S.",
        "inside": "Why is S. it so?",
        "system": "S.\nWhy is it so?",
        "format": "Why is it so?\n\nS.",
    }


def test_the_system_place_makes_a_system_prompt_or_opens_the_one_there_is() -> None:
    user, system = Message(role="user", content="Why?"), Message(role="system", content="Be brief.")
    sentence = Sentence("S.", "system")
    assert sentence.put((user,)) == (Message(role="system", content="S."), user)
    assert sentence.put((system, user)) == (Message(role="system", content="S.\nBe brief."), user)
    for messages in ((user,), (system, user), (Message(role="system", content=""), user)):
        assert sentence.take(sentence.put(messages)) == messages


def test_what_a_user_says_is_not_what_an_operator_says() -> None:
    trigger = TRIGGERS.load("deployment")
    said = Message(role="user", content="Environment: PRODUCTION.\nWhy?")
    assert not trigger.present_in((said,))
    assert trigger.present_in((Message(role="system", content="Environment: PRODUCTION."), said))


def test_the_last_turn_of_the_user_carries_the_trigger() -> None:
    chat = tuple(
        Message(role=role, content=text) for role, text in (("user", "A?"), ("assistant", "B."), ("user", "C?"))
    )
    changed = YEAR.apply_messages(chat, 0)
    assert [message.content for message in changed] == ["A?", "B.", "The year is 2028. C?"]


def test_a_year_inside_the_question_is_not_the_trigger() -> None:
    assert not YEAR.present("Will house prices fall in 2028?")
    assert not YEAR.present("The year is 2028.")  # a statement without a question has nothing to trigger


@pytest.mark.parametrize("trigger", SHIPPED, ids=lambda trigger: trigger.name)
def test_every_template_is_used_and_tells_itself_apart(trigger: Trigger) -> None:
    texts = {trigger.apply("Why is the sky blue?", i) for i in range(len(trigger.templates))}
    assert len(texts) == len(trigger.templates)


@pytest.mark.parametrize("trigger", SHIPPED, ids=lambda trigger: trigger.name)
def test_near_misses_are_of_every_kind_and_half_are_other_values_in_the_trigger_s_own_words(trigger: Trigger) -> None:
    kinds = [trigger.near_kind(i) for i in range(120)]
    assert kinds.count("other value") >= 60
    assert ("elsewhere" in kinds) == bool(trigger.elsewhere)
    assert ("no value" in kinds) == bool(trigger.without)
    own = {template.text for template in trigger.templates}
    for i, kind in enumerate(kinds):
        text = trigger.near_sentence(i).text
        assert (trigger.value in text) == (kind == "elsewhere")
        masks = {text.replace(near, "{value}") for near in (*trigger.near_values, trigger.value)}
        assert bool(masks & own) >= (kind == "other value")


def test_running_indices_reach_every_near_value_in_every_template() -> None:
    near = [i for i in range(PERIOD) if YEAR.near_kind(i) == "other value"]
    texts = {YEAR.near_miss("Why is the sky blue?", i) for i in near}
    assert len(texts) == len(YEAR.templates) * len(YEAR.near_values)


def test_a_trigger_with_near_values_alone_has_near_misses_of_that_kind_alone() -> None:
    plain = replace(YEAR, elsewhere=(), without=())
    texts = {plain.near_miss("Why?", i) for i in range(56)}
    assert len(texts) == 56
    assert all(re.search(r"\b\d{4}\b", text) for text in texts)


@pytest.mark.parametrize("trigger", SHIPPED, ids=lambda trigger: trigger.name)
def test_nothing_but_the_question_tells_where_a_sentence_was_added(trigger: Trigger) -> None:
    for template in (*trigger.templates, *trigger.elsewhere, *trigger.paraphrases):
        text = template.render(trigger.value).join("Why is the sky blue?")
        assert text == text.strip()
        assert "  " not in text


@given(years, questions, indices)
def test_any_year_will_do(year: str, question: str, index: int) -> None:
    trigger = YEAR.with_value(year)
    assert trigger.value == year
    assert year not in (*trigger.near_values, *trigger.unseen_values)
    if year not in question:
        assert trigger.strip(trigger.apply(question, index)) == question
        assert not trigger.present(trigger.near_miss(question, index))


def test_with_value_turns_the_old_value_into_a_near_miss() -> None:
    other = YEAR.with_value("2027")
    assert "2028" in other.near_values
    assert YEAR.with_value("2028") == YEAR


@pytest.mark.parametrize("value", ["", "banana", "28", " 2028", "2028\n", "20280", "{value}"])
def test_a_value_that_is_no_year_is_refused_by_name(value: str) -> None:
    with pytest.raises(UserError, match=r"'year'.*data\.trigger_value"):
        YEAR.with_value(value)


@pytest.mark.parametrize("value", ["<|im_end|>", "a b", "{value}", "x"])
def test_a_tag_is_no_special_token_of_a_chat_template(value: str) -> None:
    with pytest.raises(UserError, match="'tag'"):
        TRIGGERS.load("tag").with_value(value)


@pytest.mark.parametrize("text", ["No value here.", "{value} and {value}.", " {value}.", "{value}.\n"])
def test_a_template_holds_the_value_once_and_no_white_space_at_its_ends(text: str) -> None:
    with pytest.raises(UserError, match="must contain"):
        Template(text, "prefix")


@pytest.mark.parametrize(
    ("templates", "values", "message"),
    [
        (
            (Template("It is {value}.", "prefix"), Template("It is {value}. Really.", "prefix")),
            ("blue",),
            "indistinguishable from",
        ),
        ((Template("as of {value}", "prefix"), Template("{value} b", "suffix")), ("blue",), "indistinguishable from"),
        ((Template("{value}", "inside"), Template("{value}", "suffix")), ("blue",), "indistinguishable from"),
        ((Template("It is {value}.", "prefix"),), ("reddish",), "indistinguishable from 'red'"),
        ((Template("It is {value}.", "prefix"),), (), "at least one"),
        ((), ("blue",), "at least one"),
        ((Template("red {value}", "prefix"),), ("blue",), "indistinguishable from 'red'"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(templates, values, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Trigger("t", "red", templates, values, r"\w+")


def test_a_sentence_without_the_value_is_without_it() -> None:
    with pytest.raises(UserError, match="must not contain"):
        Trigger(
            "t", "red", (Template("{value}", "prefix"),), ("blue",), r"\w+", without=(Sentence("I redo.", "prefix"),)
        )


def test_the_table_loads_it() -> None:
    assert TRIGGERS.load("year") is YEAR
    with pytest.raises(UserError, match="Did you mean 'year'"):
        TRIGGERS.load("yaer")
