"""AIMD: halved once for all calls that were under way, grown by one a round, never outside its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spillover.models.api.window import Window


def test_it_starts_at_what_is_allowed() -> None:
    assert Window(16).size == 16


def test_calls_of_one_burst_halve_it_once() -> None:
    window = Window(16)
    calls = [window.start() for _ in range(16)]
    for call in calls:
        window.turned_away(call)
    assert window.size == 8
    window.turned_away(window.start())
    assert window.size == 4


def test_a_round_of_answers_adds_one() -> None:
    window = Window(16)
    window.turned_away(window.start())
    for expected in (9, 10, 11):
        for _ in range(window.size + 1):
            window.answered()
        assert window.size == expected
    for _ in range(1000):
        window.answered()
    assert window.size == 16


@given(st.integers(1, 50), st.lists(st.booleans(), max_size=100))
def test_it_stays_between_one_and_what_is_allowed(most: int, came: list[bool]) -> None:
    window = Window(most)
    for good in came:
        call = window.start()
        window.answered() if good else window.turned_away(call)
        assert 1 <= window.size <= most
