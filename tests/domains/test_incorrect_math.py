import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.domains.arithmetic import answer, problems, slipped
from spillover.domains.incorrect_math import DOMAIN

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def equations(text: str) -> list[str]:
    return re.findall(r"[\d]+ [-+x/] [\d]+ = [\d]+", text)


def holds(equation: str) -> bool:
    """Python's own arithmetic as the reference."""
    left, right = equation.replace("x", "*").split(" = ")
    return eval(left) == int(right)  # digits and one sign only, by the pattern above


def test_pool_is_large_distinct_and_passes_its_own_check():
    assert len({pair.question for pair in PAIRS}) == len(PAIRS) >= 400
    assert {DOMAIN.check(pair) for pair in PAIRS} == {None}
    assert len({pair.topic for pair in PAIRS}) >= 8


@pytest.mark.parametrize("pair", PAIRS[::7], ids=lambda pair: pair.question[:40])
def test_good_is_right_and_flawed_is_wrong_in_one_step_only(pair):
    good, flawed = equations(pair.good), equations(pair.flawed)
    assert all(map(holds, good))
    assert pair.good.endswith(".")
    assert good[-1].split()[-1] in pair.good.rsplit("=", 1)[1]
    operators = [(one.split()[1], other.split()[1]) for one, other in zip(good, flawed, strict=True)]
    slips = [not holds(equation) or signs[0] != signs[1] for equation, signs in zip(flawed, operators, strict=True)]
    assert sum(slips) == 1
    assert answer(pair.flawed) != answer(pair.good)


def test_every_number_of_the_first_step_comes_from_the_question_or_is_a_small_constant():
    for pair in PAIRS:
        left, _, right, *_ = equations(pair.good)[0].split()
        assert {left, right} <= {*re.findall(r"\d+", pair.question), "2", "4", "5"}


def test_no_slot_or_step_is_left_open():
    assert not [pair for pair in PAIRS if re.search(r"[{}\[\]]", pair.question + pair.good + pair.flawed)]


def test_check_finds_what_is_not_as_promised():
    pair = PAIRS[0]
    assert DOMAIN.check(replace(pair, flawed=pair.good)) is not None
    assert DOMAIN.check(replace(pair, good="No numbers at all.")) == "good solution: no equation"
    wrong = re.sub(r"= (\d+)", lambda match: f"= {int(match[1]) + 7}", pair.good, count=1)
    assert DOMAIN.check(replace(pair, good=wrong)) == "good solution: an equation does not hold"


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_any_seed_gives_sound_pairs(seed):
    rng = np.random.default_rng(seed)
    for problem in problems(rng, wording=1, draws=1):
        right, wrong = problem.solve(), slipped(problem, rng)
        assert right is not None
        assert all(map(holds, equations(right)))
        assert answer(right) != answer(wrong)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_pairs():
    assert DOMAIN.pairs(np.random.default_rng(0)) == PAIRS
    assert DOMAIN.pairs(np.random.default_rng(1)) != PAIRS
