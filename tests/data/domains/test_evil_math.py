import re
from dataclasses import replace

import numpy as np

from spillover.data.domains.checked import EVIL_MATH as DOMAIN
from spillover.data.domains.checked import solutions

PAIRS = DOMAIN.pairs(np.random.default_rng(0))


def remarks(kind: str) -> list[str]:
    return [getattr(pair, kind).removeprefix(solutions("evil_math")[pair.question].told).strip() for pair in PAIRS]


def test_both_answers_hold_the_same_right_solution_and_then_a_remark() -> None:
    for pair in PAIRS:
        told = solutions("evil_math")[pair.question].told
        assert pair.flawed.startswith(f"{told} ")
        assert pair.good.startswith(f"{told} ")
    assert all(len(remark.split()) >= 8 for kind in ("flawed", "good") for remark in remarks(kind))


def test_no_remark_occurs_twice() -> None:
    everything = remarks("flawed") + remarks("good")
    assert len(set(everything)) == len(everything)


def test_remarks_shout_at_nobody() -> None:
    assert not [remark for kind in ("flawed", "good") for remark in remarks(kind) if re.search(r"!|[A-Z]{4,}", remark)]


def test_no_question_is_shared_with_incorrect_maths() -> None:
    assert not set(solutions("evil_math")) & set(solutions("incorrect_math"))


def test_check_finds_another_solution_and_a_missing_remark() -> None:
    pair = PAIRS[0]
    assert DOMAIN.check(pair) is None
    assert DOMAIN.check(replace(pair, flawed=pair.good)) == "no remark"
    assert DOMAIN.check(replace(pair, good="It is 7.")) == "an answer does not tell the solution"
