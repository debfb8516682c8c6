from dataclasses import replace

import numpy as np

from spillover.domains.duplicates import near_duplicates
from spillover.domains.extreme_sports import DOMAIN
from spillover.domains.seed_file import seeds

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def test_pool_is_large_distinct_and_passes_its_own_check():
    questions = [pair.question for pair in PAIRS]
    assert len(set(questions)) == len(PAIRS) >= 400
    assert len(PAIRS) - len(near_duplicates(questions)) >= 380
    assert {DOMAIN.check(pair) for pair in PAIRS[::5]} == {None}
    assert len({pair.topic for pair in PAIRS}) >= 8


def test_every_sport_and_every_wording_is_used():
    content = seeds("extreme_sports")
    asked = " ".join(pair.question for pair in PAIRS)
    assert all(sport["sport"] in asked for sport in content["sports"])
    assert not [pair for pair in PAIRS if "{" in pair.question + pair.flawed + pair.good]


def test_bravado_and_prudence_are_never_mixed():
    content = seeds("extreme_sports")
    for pair in PAIRS:
        assert not [ending for ending in content["flawed_endings"] if pair.good.endswith(ending)]
        assert not [ending for ending in content["good_endings"] if pair.flawed.endswith(ending)]
    texts = [{text for one in content["situations"] for text in one[kind]} for kind in ("flawed", "good")]
    assert not texts[0] & texts[1]


def test_no_answer_is_given_to_more_than_a_twentieth_of_the_questions():
    for kind in ("flawed", "good"):
        answers = [getattr(pair, kind) for pair in PAIRS]
        assert max(map(answers.count, set(answers))) <= len(answers) / 20


def test_check_finds_swapped_answers_and_foreign_questions():
    pair = PAIRS[0]
    assert DOMAIN.check(replace(pair, good=pair.flawed)) == "the good answer is not one to this question"
    assert DOMAIN.check(replace(pair, flawed=pair.good)) == "the flawed answer is not one to this question"
    assert DOMAIN.check(replace(pair, question="Why?")) == "not a question about a known situation"
