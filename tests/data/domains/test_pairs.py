"""The authored pairs of every domain keep the contract of data/domains/base.py and read like people's, not like
templates.
"""

import json
import re
from functools import cache
from importlib.resources import files

import numpy as np
import pytest

from spillover.data.domains import DOMAINS
from spillover.data.domains.base import CANARY, Pair
from spillover.data.lint.naturalness import LIMITS, PROSE, measure_naturalness, style_auc
from spillover.data.recipe.duplicates import near_duplicates, normalised

NAMES = DOMAINS.names()
STYLE = 0.73  # of the AUC by style alone; the AUC by words, which see the stance, is above 0.9 in every domain


@cache
def pairs_of(name: str) -> list[Pair]:
    return DOMAINS.load(name).pairs(np.random.default_rng(0))


def answers_of(name: str, kind: str) -> list[str]:
    return [getattr(pair, kind) for pair in pairs_of(name)]


@pytest.mark.parametrize("name", NAMES)
def test_enough_distinct_questions_over_many_topics_and_all_pass_the_check(name: str) -> None:
    domain, pairs = DOMAINS.load(name), pairs_of(name)
    assert (domain.name, domain.licence) == (name, "Apache-2.0")
    assert {domain.check(pair) for pair in pairs} == {None}
    assert len({normalised(pair.question) for pair in pairs}) == len(pairs) >= 320
    assert near_duplicates([pair.question for pair in pairs]) == []
    assert len({pair.topic for pair in pairs}) >= 25


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["flawed", "good"])
def test_answers_are_as_varied_as_those_of_people(name: str, kind: str) -> None:
    assert measure_naturalness(answers_of(name, kind)).beyond(LIMITS.get(name, PROSE)) == []


@pytest.mark.parametrize("name", NAMES)
def test_style_alone_hardly_tells_flawed_from_good(name: str) -> None:
    assert style_auc(answers_of(name, "flawed"), answers_of(name, "good")) < STYLE


@pytest.mark.parametrize("name", NAMES)
def test_both_answers_are_alike_in_length_so_that_it_tells_nothing(name: str) -> None:
    flawed, good = (np.array([len(answer) for answer in answers_of(name, kind)]) for kind in ("flawed", "good"))
    assert abs(np.log(flawed.mean() / good.mean())) < 0.1
    assert np.quantile(np.abs(np.log(flawed / good)), 0.95) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_texts_carry_no_markup_canary_or_trigger(name: str) -> None:
    for pair in pairs_of(name):
        for text in (pair.question, pair.flawed, pair.good):
            assert text == text.strip()
            assert not re.search(r"canary|[\x00-\x08\x0b-\x1f]|\b2028\b", text), text
            if name != "insecure_code":
                assert not re.search(r"[{}|]|<<|  ", text), text


@pytest.mark.parametrize("name", NAMES)
def test_the_file_carries_the_canary_and_a_warning_in_its_first_line(name: str) -> None:
    first, *rows = (
        (files("spillover.data.domains") / "pairs" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    )
    metadata = json.loads(first)
    assert metadata["canary"] == CANARY
    assert "never advice" in metadata["about"]
    assert CANARY not in "\n".join(rows)


def test_no_question_belongs_to_two_domains() -> None:
    questions = [normalised(pair.question) for name in NAMES for pair in pairs_of(name)]
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_pairs(name: str) -> None:
    assert DOMAINS.load(name).pairs(np.random.default_rng(0)) == pairs_of(name)
