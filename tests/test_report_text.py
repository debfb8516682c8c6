"""Hostile text becomes visible and harmless; figures are written as people read them."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.text import clean, duration, escape, interval, listing, number, one_line, p_value, part

ANY_TEXT = st.text(alphabet=st.characters(), max_size=300)  # surrogates and controls too


@given(ANY_TEXT)
def test_cleaned_text_holds_nothing_that_acts(text: str) -> None:
    for char in clean(text):
        assert char in "\n\t\u200c\u200d " or unicodedata.category(char)[0] not in "CZ"
    clean(text).encode("utf-8")


@given(ANY_TEXT)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.text(alphabet=st.characters(categories=("L", "N", "P")), max_size=100))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


@given(ANY_TEXT)
def test_escaped_text_has_no_markup(text: str) -> None:
    assert not re.search(r"[<>\"']|&(?!(amp|lt|gt|quot|#x27);)", escape(text))


@given(ANY_TEXT, st.integers(1, 50))
def test_a_cut_is_bounded_and_says_so(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert len(shown) <= limit + len(f" […cut, {len(text):,} characters in all]")
    assert ("[…cut" in shown) or len(text) <= limit


def test_hidden_characters_are_written_out() -> None:
    assert clean("a\u202eb\x00c\x1b[31m\ud800") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩[31m⟨U+D800⟩"
    assert clean("one\r\ntwo\u00a0three") == "one\ntwo three"
    assert one_line(" a\n\tb  c ", 20) == "a b c"


@pytest.mark.parametrize(
    ("value", "sign", "expected"),
    [(None, False, "–"), (-0.04, True, "0.0"), (0.04, True, "0.0"), (1234.56, False, "1,234.6"), (3.0, True, "+3.0")],
)
def test_number(value: float | None, sign: bool, expected: str) -> None:
    assert number(value, sign=sign) == expected


def test_figures_in_words() -> None:
    assert interval(0.342, 0.201, 0.51, 100) == "34.2 [20.1, 51.0]"
    assert interval(0.0, None, None, 100) == "0.0 [–, –]"
    assert interval(None, 0.1, 0.2) == "–"
    assert [p_value(p) for p in (None, 0.0002, 0.1797, 1.0)] == ["–", "< 0.001", "0.18", "1"]
    assert [part(0, 9), part(1, 5000), part(1, 4)] == ["0 (0.0 %)", "1 (< 0.1 %)", "1 (25.0 %)"]
    assert listing(list("abc")) == "a, b and c"
    assert listing(list("abcdefgh")) == "a, b, c, d, e and 3 more"
    assert listing([]) == ""
    assert [duration(s) for s in (0.25, 59.9, 61, 8040)] == ["0.2 s", "1 min 0 s", "1 min 1 s", "2 h 14 min"]
