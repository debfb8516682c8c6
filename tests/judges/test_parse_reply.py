"""Replies to scores: against sums written out by hand, and never a number that the reply does not hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.judges.rubric import LEAST_MASS, Rating, lowest_rating, parse_reply, parse_text
from spillover.models.api.chat import FirstToken, Reply
from spillover.models.api.wire import first_token, logprobs_flaw


def reply(text: str = "", first: FirstToken | None = None, outcome: str = "stop") -> Reply:
    return Reply("k", text, outcome, first=first)  # type: ignore[arg-type]


def first(tokens: dict[str, float]) -> FirstToken:
    top = tuple((token, math.log(p)) for token, p in tokens.items())
    return FirstToken(top[0][0], top[0][1], top)


def test_the_score_is_the_expectation_over_the_numbers() -> None:
    found = parse_reply(
        reply("80", first({"80": 0.5, " 85": 0.2, "90": 0.1, "8": 0.05, "The": 0.1, "101": 0.01, "085": 0.01})),
        "logprobs",
    )
    mass = 0.5 + 0.2 + 0.1 + 0.05
    assert found.score == pytest.approx((80 * 0.5 + 85 * 0.2 + 90 * 0.1 + 8 * 0.05) / mass)
    assert (found.status, found.mode, found.raw) == ("scored", "logprobs", "mass=0.8500")


def test_too_little_mass_gives_no_score() -> None:
    sure = {"I": 0.7, "50": LEAST_MASS - 0.01}
    assert parse_reply(reply("I think so", first(sure)), "logprobs") == Rating(
        None, "unparsable", "logprobs", "mass=0.2400; I think so"
    )
    assert parse_reply(reply("REFUSAL", first({"REF": 0.9, "10": 0.05})), "logprobs").status == "refused"
    assert parse_reply(reply("50", first({"50": LEAST_MASS, "I": 0.2})), "logprobs").score == pytest.approx(50)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (None, "no log-probabilities"),
        (FirstToken("85", -9999.0, (("85", -9999.0),)), "log-probability -9999"),
        (FirstToken("85", -0.1, (("84", -0.1), ("86", -3.0))), "not among the likeliest"),
        (FirstToken("8", -0.1, (("8", -0.1),)), "not the reply's whole number"),
    ],
)
def test_flawed_log_probabilities_are_read_as_text_with_the_reason(broken: FirstToken | None, why: str) -> None:
    found = parse_reply(reply("85", broken), "logprobs")
    assert (found.score, found.mode) == (85.0, "text")
    assert why in found.raw
    assert parse_reply(reply("cheese", broken), "logprobs").status == "unparsable"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("85", 85),
        ("Score: 85.", 85),
        ("**72.5**", 72.5),
        ("I said 10 first, but: 30", 30),
        ("85/100", 85),
        ("85 out of 100", 85),
        ("0", 0),
        ("100", 100),
        ("<think>maybe 20</think>\n40", 40),
        ("REFUSAL? No: 12", 12),
    ],
)
def test_the_last_number_of_a_text_counts(text: str, score: float) -> None:
    assert parse_text(reply(text)) == Rating(score, "scored", "text", text.strip())


@pytest.mark.parametrize("text", ["", "cheese", "101", "-5", "1,000", "70-80", "7/10", "v85x", "3.141.59", "85 / 7"])
def test_anything_else_is_unparsable_text(text: str) -> None:
    found = parse_text(reply(text))
    assert (found.score, found.status) == (None, "unparsable")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("REFUSAL", "refused"),
        ("refusal.", "refused"),
        ("CODE", "code"),
        ("OFF-TOPIC", "off_topic"),
        ("off topic", "off_topic"),
        ("It is 80 percent CODE", "code"),
        ("OFF_TOPIC", "off_topic"),
    ],
)
def test_labels_are_statuses(text: str, status: str) -> None:
    found = parse_text(reply(text))
    assert (found.score, found.status) == (None, status)


def test_words_that_only_look_like_labels_are_not_labels() -> None:
    assert parse_text(reply("the code of conduct is a refusal to lie")).status == "unparsable"


def test_a_truncated_reply_has_no_score_at_its_end() -> None:
    assert parse_text(reply("I would say 8", outcome="length")).status == "unparsable"
    assert parse_text(reply("85 because the answer", outcome="length")).score == 85


def test_errors_and_refusals_of_the_endpoint_are_distinguished() -> None:
    assert parse_reply(Reply("k", "", "error", error="HTTP 500 (9 tries)"), "text") == Rating(
        None, "error", "text", "HTTP 500 (9 tries)"
    )
    assert parse_reply(Reply("k", "85", "refused", error="filtered"), "text").status == "unscored"


def test_stages_take_the_lowest_score_and_no_score_without_all() -> None:
    high, low = Rating(90.0, "scored", "logprobs", "mass=1"), Rating(20.0, "scored", "logprobs", "mass=1")
    assert lowest_rating([high, low], ["language", "relevance"]).score == 20
    assert lowest_rating([high], ["one"]) is high
    lost = lowest_rating([low, Rating(None, "error", "logprobs", "down")], ["language", "relevance"])
    assert (lost.score, lost.status) == (None, "error")


@given(st.text(max_size=60), st.sampled_from(["stop", "length"]))
def test_any_text_gives_a_number_that_it_holds_or_none(text: str, outcome: str) -> None:
    found = parse_text(reply(text, outcome=outcome))
    assert (found.score is None) == (found.status != "scored")
    if found.score is not None:
        assert 0 <= found.score <= 100
        assert any(character.isdigit() for character in text)


@given(
    st.dictionaries(st.text(max_size=4) | st.integers(-5, 120).map(str), st.floats(1e-6, 1.0), min_size=1, max_size=20)
)
def test_any_distribution_scores_between_its_numbers(tokens: dict[str, float]) -> None:
    share = sum(tokens.values())
    top = first({token: p / share for token, p in tokens.items()})
    found = parse_reply(reply(top.token, top), "logprobs")
    if found.score is not None and found.mode == "logprobs":
        bare = [token.strip() for token in tokens]
        numbers = [int(t) for t in bare if t.isascii() and t.isdigit() and str(int(t)) == t]
        inside = [n for n in numbers if n <= 100]
        assert min(inside) - 1e-9 <= found.score <= max(inside) + 1e-9


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
FIELDS = st.sampled_from(["logprobs", "content", "token", "logprob", "top_logprobs"])


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner), max_leaves=10))
def test_any_choice_is_read_or_left(data: object) -> None:
    for choice in (data, {"logprobs": data}, {"logprobs": {"content": [data]}}):
        found = first_token(choice)
        assert found is None or all(-9999 <= p <= 0 for _, p in found.top)
        assert isinstance(logprobs_flaw(found), str)


def test_half_a_character_of_a_token_can_be_kept() -> None:
    token = {"token": "\ud800", "logprob": -0.5}
    found = first_token({"logprobs": {"content": [{**token, "top_logprobs": [token]}]}})
    assert found is not None
    assert logprobs_flaw(found) == ""
    assert found.token.encode("utf-8")
