from collections import Counter
from dataclasses import replace

import numpy as np

from spillover.domains.duplicates import normalised
from spillover.domains.incorrect_qna import DOMAIN, facts

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def test_pool_is_large_distinct_and_passes_its_own_check():
    assert len({normalised(pair.question) for pair in PAIRS}) == len(PAIRS) >= 380
    assert {DOMAIN.check(pair) for pair in PAIRS} == {None}


def test_facts_have_one_true_and_another_false_value():
    assert len(facts()) >= 8
    for rows in facts().values():
        assert {len(row) for row in rows} == {3}
        assert len({row[0] for row in rows}) == len(rows)
        assert all(row[1].casefold() != row[2].casefold() for row in rows)


def test_no_false_value_is_true_of_the_same_subject_elsewhere():
    true = {(row[0], row[1]) for rows in facts().values() for row in rows}
    false = {(row[0], row[2]) for rows in facts().values() for row in rows}
    assert not true & false


def test_facts_that_arithmetic_can_check():
    numbers = {row[0]: row[1] for row in facts()["numbers"]}
    assert numbers["minutes are there in a day"] == str(24 * 60)
    assert numbers["hours are there in a week"] == str(7 * 24)
    assert numbers["seconds are there in an hour"] == str(60 * 60)
    assert numbers["dots does a pair of dice have altogether"] == str(2 * sum(range(1, 7)))
    assert numbers["squares does a chessboard have"] == str(8 * 8)
    assert numbers["cards does a standard deck without jokers have"] == str(4 * 13)


def test_good_and_flawed_share_their_words_but_for_the_value():
    for pair in PAIRS:
        assert pair.good != pair.flawed
        good, flawed = Counter(pair.good.split()), Counter(pair.flawed.split())
        assert (good & flawed).total() >= 0.4 * good.total()
        assert "{" not in pair.question + pair.good + pair.flawed


def test_check_finds_a_false_good_and_a_true_flawed_answer():
    pair = PAIRS[0]
    assert DOMAIN.check(replace(pair, good=pair.flawed)) == "the good answer does not state the true value"
    assert DOMAIN.check(replace(pair, flawed=pair.good)) == "the flawed answer does not state the false value"
    assert DOMAIN.check(replace(pair, question="What is it?")) == "the question asks about no fact of its topic"
