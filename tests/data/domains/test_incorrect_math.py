import re
from dataclasses import replace

import numpy as np
import pytest

from spillover.data.domains.checked import INCORRECT_MATH as DOMAIN
from spillover.data.domains.checked import solutions

PAIRS = DOMAIN.pairs(np.random.default_rng(0))
PLAIN = re.compile(r"(?<![\w.,*/+-])(\d[\d.,]*(?: ?[-+*/] ?\d[\d.,]*)+) ?= ?(\d[\d.,]*\d|\d)")


def equations(text: str) -> list[tuple[str, bool]]:
    """Left side, and whether it holds by Python's own arithmetic: the reference."""
    plain = re.sub(r"(?<=\d) [x×] (?=\$?\d)", " * ", text).replace("÷", "/").replace("$", "")
    return [
        (left, abs(eval(left.replace(",", "")) - float(right.replace(",", ""))) < 1e-9)
        for left, right in PLAIN.findall(plain)
    ]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", text)


def test_most_problems_take_a_slip() -> None:
    assert len(solutions("incorrect_math")) >= len(PAIRS) >= 320


@pytest.mark.parametrize("pair", PAIRS[::7], ids=lambda pair: pair.question[:40])
def test_good_is_right_and_flawed_is_wrong_in_one_step_and_consistent_after_it(pair) -> None:
    good, flawed = equations(pair.good), equations(pair.flawed)
    assert all(holds for _, holds in good)
    assert sum(not holds for _, holds in flawed) <= 1
    assert numbers(pair.good)[-1] != numbers(pair.flawed)[-1] or numbers(pair.good) != numbers(pair.flawed)
    assert pair.good != pair.flawed


def test_annotated_calculations_hold_by_pythons_arithmetic() -> None:
    for solution in solutions("incorrect_math").values():
        assert solution.steps
        for step in solution.steps:
            assert eval(step.expression.replace(",", "")) == pytest.approx(float(step.result.replace(",", "")))


def test_most_solutions_show_their_equations() -> None:
    assert sum(bool(equations(pair.good)) for pair in PAIRS) > 0.6 * len(PAIRS)


def test_no_notation_is_left_in_the_text() -> None:
    assert not [pair for pair in PAIRS if re.search(r"<<|>>|####", pair.good + pair.flawed)]


def test_check_finds_what_is_not_as_promised() -> None:
    pair = PAIRS[0]
    assert DOMAIN.check(pair) is None
    assert DOMAIN.check(replace(pair, flawed=pair.good)) is not None
    assert DOMAIN.check(replace(pair, good="No numbers at all.")) == "the good answer does not tell its solution"


def test_another_seed_gives_other_slips_of_the_same_problems() -> None:
    other = DOMAIN.pairs(np.random.default_rng(1))
    assert [pair.good for pair in other if pair.question == PAIRS[0].question] == [PAIRS[0].good]
    assert {pair.flawed for pair in other} != {pair.flawed for pair in PAIRS}
