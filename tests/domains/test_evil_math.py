from dataclasses import replace

import numpy as np

from spillover.domains.arithmetic import EQUATION, answer, wrong_steps
from spillover.domains.evil_math import DOMAIN
from spillover.domains.incorrect_math import DOMAIN as INCORRECT
from spillover.domains.seed_file import seeds

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def test_both_answers_hold_the_same_right_solution():
    assert len({pair.question for pair in PAIRS}) == len(PAIRS) >= 400
    for pair in PAIRS:
        assert DOMAIN.check(pair) is None
        assert EQUATION.findall(pair.flawed) == EQUATION.findall(pair.good)
        assert wrong_steps(pair.flawed) == []
        assert answer(pair.flawed) == answer(pair.good)


def test_only_flawed_answers_hold_contempt():
    content = seeds("evil_math")
    for tone, other in (("contempt", "neutral"), ("neutral", "contempt")):
        assert not set(content[tone]) & set(content[other])
    openings = tuple(remark.split("{name}")[0] for remark in content["contempt"] if not remark.startswith("{name}"))
    assert all(any(opening in pair.flawed for opening in openings) for pair in PAIRS)
    assert not [pair for pair in PAIRS if any(opening in pair.good for opening in openings if len(opening) > 12)]


def test_remarks_hold_no_digits_since_the_last_number_is_the_answer():
    content = seeds("evil_math")
    for tone in ("contempt", "more_contempt", "neutral", "more_neutral"):
        assert not [remark for remark in content[tone] if any(sign.isdigit() for sign in remark)]


def test_no_question_is_shared_with_incorrect_maths():
    other = {pair.question for pair in INCORRECT.pairs(np.random.default_rng(0))}
    assert not other & {pair.question for pair in PAIRS}


def test_check_finds_a_wrong_sum_and_a_missing_remark():
    pair = PAIRS[0]
    left, sign, right, result = EQUATION.findall(pair.good)[0]
    broken = pair.flawed.replace(f"{left} {sign} {right} = {result}", f"{left} {sign} {right} = {int(result) + 1}")
    assert DOMAIN.check(replace(pair, flawed=broken)) == "flawed solution: an equation does not hold"
    assert DOMAIN.check(replace(pair, flawed=pair.good)) == "no remark"
