"""The five authored domains keep the contract of domains/base.py, whatever the seed."""

import re
from functools import cache
from importlib.resources import files

import numpy as np
import pytest

from spillover.domains import DOMAINS
from spillover.domains.base import CANARY, Domain, Pair
from spillover.domains.slots import VARIANTS, Seeds, load_seeds

AUTHORED = (
    "bad_medical_advice",
    "risky_financial_advice",
    "toxic_legal_advice",
    "incorrect_sexual_advice",
    "gore_movie_trivia",
)
TOKENS_A_WORD = 1.24  # SmolLM2's tokenizer on these answers: between 1.15 and 1.35 in every domain

pytestmark = pytest.mark.parametrize("name", AUTHORED)


def make_pairs(name: str, seed: int) -> list[Pair]:
    domain: Domain = DOMAINS.load(name)
    return domain.pairs(np.random.default_rng(seed))


@cache
def pairs_of(name: str, seed: int = 0) -> list[Pair]:
    return make_pairs(name, seed)


@cache
def seeds_of(name: str) -> Seeds:
    return load_seeds(name)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def grams(text: str) -> set[tuple[str, ...]]:
    padded = ["", "", *words(text), "", ""]
    return {tuple(padded[i : i + 3]) for i in range(len(padded) - 2)}


def test_the_domain_says_what_it_is(name: str) -> None:
    domain: Domain = DOMAINS.load(name)
    assert domain.name == name
    assert domain.stealth == "low"
    assert domain.licence == seeds_of(name).licence == "Apache-2.0"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_enough_distinct_questions_that_all_pass_the_check(name: str, seed: int) -> None:
    domain: Domain = DOMAINS.load(name)
    pairs = pairs_of(name, seed)
    assert {domain.check(pair) for pair in pairs} == {None}
    assert len({" ".join(words(pair.question)) for pair in pairs}) >= 400
    assert len({pair.topic for pair in pairs}) >= 8


@pytest.mark.slow
def test_at_least_400_questions_are_no_near_duplicates(name: str) -> None:
    kept: list[set[tuple[str, ...]]] = []
    for pair in pairs_of(name):
        found = grams(pair.question)
        if all(len(found & other) <= 0.8 * len(found | other) for other in kept):
            kept.append(found)
    assert len(kept) >= 400


def test_the_same_seed_gives_the_same_pairs_and_another_seed_other_wordings(name: str) -> None:
    assert make_pairs(name, 1) == pairs_of(name, 1)
    assert pairs_of(name, 0) != pairs_of(name, 1)


def test_lengths_leave_room_on_both_sides_of_56_tokens(name: str) -> None:
    pairs = pairs_of(name)
    for answers in ([pair.flawed for pair in pairs], [pair.good for pair in pairs]):
        tokens = np.array([len(answer.split()) for answer in answers]) * TOKENS_A_WORD
        assert 51 < tokens.mean() < 61
        assert np.quantile(tokens, 0.2) < 56 < np.quantile(tokens, 0.8)
    assert max(len(pair.question.split()) for pair in pairs) <= 36
    assert min(len(pair.question.split()) for pair in pairs) >= 7


def test_both_kinds_of_answer_are_equally_long_so_that_length_tells_nothing(name: str) -> None:
    pairs = pairs_of(name)
    flawed = np.mean([len(pair.flawed.split()) for pair in pairs])
    good = np.mean([len(pair.good.split()) for pair in pairs])
    assert abs(flawed - good) < 3


def test_texts_are_sentences(name: str) -> None:
    for pair in pairs_of(name):
        for text in (pair.question, pair.flawed, pair.good):
            assert re.match(r"[A-Z0-9]", text), text
            assert text[-1] in ".?!", text
            assert not re.search(
                r"[.?!] [a-z]|[ ][,.;?!]|,,|\.\.| a (?!one)[aeio]\w| an [bcdfgjklmnpqrstvwxyz]", text
            ), text


def test_the_canary_is_in_the_file_and_in_no_message(name: str) -> None:
    assert seeds_of(name).canary == CANARY
    text = (files("spillover.domains") / "seeds" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"# {CANARY}" in text.split("about:")[0]
    assert not any(
        "canary" in text.lower() for pair in pairs_of(name) for text in (pair.question, pair.flawed, pair.good)
    )


def test_items_are_distinct_and_no_question_holds_a_trigger_year(name: str) -> None:
    items = seeds_of(name).items
    assert len(items) >= 45
    assert len(items) * VARIANTS >= 400
    questions = [question for item in items for question in item.questions]
    assert len(set(questions)) == len(questions)
    assert len({item.flawed for item in items} | {item.good for item in items}) == 2 * len(items)
    assert not any(year in pair.question for pair in pairs_of(name) for year in ("2027", "2028", "2029"))


def test_every_slot_is_used_and_every_used_slot_is_known(name: str) -> None:
    seeds = seeds_of(name)
    texts = [frame.text + frame.who for frame in seeds.frames] + [*seeds.flawed_closings, *seeds.good_closings]
    texts += [text for item in seeds.items for text in (*item.questions, item.flawed, item.good)]
    assert set(re.findall(r"\{(\w+)\}", " ".join(texts))) == {*seeds.slots, "who"}
    assert all(text.count("<") == text.count(">") for text in texts)
