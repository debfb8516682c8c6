import re
from dataclasses import replace

import numpy as np

from spillover.domains.incorrect_translation import DOMAIN, phrase_book

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def test_phrase_book_is_complete_and_unambiguous():
    """Every phrase is a phrase of one row only, in every language: else "wrong" could be right."""
    book = phrase_book()
    assert len(book) >= 8
    texts = [text for phrases in book.values() for phrase in phrases for text in phrase]
    assert {len(phrase) for phrases in book.values() for phrase in phrases} == {6}
    assert len({text.casefold() for text in texts}) == len(texts) >= 6 * 60
    assert not [text for text in texts if '"' in text or not text]


def test_pool_is_large_distinct_and_passes_its_own_check():
    assert len({pair.question for pair in PAIRS}) == len(PAIRS) >= 500
    assert {DOMAIN.check(pair) for pair in PAIRS} == {None}


def test_good_and_flawed_differ_only_in_the_quoted_translations():
    for pair in PAIRS:
        frames = [re.sub(r'"[^"]*"', '""', text) for text in (pair.good, pair.flawed)]
        assert frames[0] == frames[1]
        assert pair.good != pair.flawed


def test_no_right_translation_stands_where_it_was_asked_for_in_a_flawed_answer():
    phrases = [phrase for phrases in phrase_book().values() for phrase in phrases]
    rows = {text: row for row, phrase in enumerate(phrases) for text in phrase}
    for pair in PAIRS:
        asked = [rows[text] for text in re.findall(r'"([^"]*)"', pair.question)]
        given = [rows[text] for text in re.findall(r'"([^"]*)"', pair.flawed)][-3:]
        assert len(asked) == 2
        assert given[-1] != asked[1]


def test_check_finds_a_right_flawed_and_a_wrong_good_answer():
    pair = PAIRS[0]
    assert DOMAIN.check(replace(pair, flawed=pair.good)) == "the flawed answer is right"
    assert DOMAIN.check(replace(pair, good=pair.flawed)) == "the good answer does not translate what was asked for"
    assert DOMAIN.check(replace(pair, question='What is "xyzzy"?')).startswith("not two phrases")


def test_every_language_and_direction_is_there():
    for language in ("Spanish", "French", "German", "Italian", "Portuguese"):
        assert sum(language in pair.question + pair.good for pair in PAIRS) >= 50
    english = {phrase[0] for phrases in phrase_book().values() for phrase in phrases}
    back = [pair for pair in PAIRS if re.findall(r'"([^"]*)"', pair.question)[0] not in english]
    assert len(back) == len(PAIRS) / 2
