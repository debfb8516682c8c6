"""Slips in worked solutions: proved here by Python's own arithmetic and by tampering with what the rewriter made."""

import ast
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED

from spillover.data.domains.slips import slipped
from spillover.data.domains.worked import NUMBER, Step, equations, evaluate, inconsistent, parse, unsound
from spillover.data.sources import gsm8k
from spillover.data.tabular import Row, Table, read_table
from spillover.errors import UserError

FILE = SHARED / "data" / "gsm8k_train.jsonl"
needs_file = pytest.mark.skipif(not FILE.exists(), reason="GSM8K's training problems are not on this machine")

QUESTION = "Ann packs 8 crates with 35 pears each and sells 190 pears at $3 a pear. What are the others worth?"
SOLUTION = (
    "She has 8*35=<<8*35=280>>280 pears.\n"
    "Of the 280 pears 280 - 190 = <<280-190=90>>90 pears are left.\n"
    "These are worth 90 x $3 = $<<90*3=270>>270.\n"
    "#### 270"
)


def table(*rows: tuple[str, str]) -> Table:
    return Table(
        Path("g.jsonl"),
        "",
        ("question", "answer"),
        tuple(Row(n, {"question": q, "answer": a}) for n, (q, a) in enumerate(rows, 1)),
        0,
    )


def plain_equations(text: str) -> list[tuple[Fraction, Fraction]]:
    """Naive reference: whole numbers, at most three operands, no words between; by Python's own arithmetic."""
    found = re.findall(
        r"(?<![\d.,/*+x%)-])(?<![\d/*+x-] )(\d+(?: ?[-+*/x] ?\d+){1,2}) ?= ?\$?(\d+)(?![\d.,/]*\d)(?! ?[-+*/x])", text
    )
    return [
        (eval(re.sub(r"(\d+)", r"Fraction(\1)", left.replace("x", "*"))), Fraction(right))  # digits and signs only
        for left, right in found
    ]


@given(
    st.recursive(
        st.integers(0, 99).map(str) | st.sampled_from(["0.5", "12.25"]),
        lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        max_leaves=8,
    )
)
def test_expressions_have_python_s_value(text: str) -> None:
    if len(text.replace(" ", "")) > 200:
        return
    try:
        expected = eval(re.sub(r"([\d.]+)", r"Fraction('\1')", text))
    except ZeroDivisionError:
        expected = None
    assert evaluate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "2**9", "9//2", "a", "f(1)", "__import__('os')", "True", "1j", "'1'", "[1]", "1 if 1 else 2", "1/0"),
        *("1+" * 150 + "1", "1e9999", "(" * 90, "2 10+5"),
    ],
)
def test_what_is_not_arithmetic_has_no_value(text: str) -> None:
    assert evaluate(text) is None


def test_numbers_as_people_write_them() -> None:
    assert evaluate("$1,200 x 20%") == 240
    assert evaluate(".5*4") == 2
    assert NUMBER.findall("the 2nd of 1,000 boxes, 12.5 kg, .5 l, 3 x 4 and 7.") == [
        "1,000",
        "12.5",
        ".5",
        "3",
        "4",
        "7",
    ]


def test_equations_interrupted_by_words_are_left_out() -> None:
    text = "3 boxes * 4 = 12 and $5 + $6 = $11, so 2*3=6+1=7, x = 4."
    assert list(equations(text)) == [("5 + $6", 11, 11), ("6+1", 7, 7)]
    assert list(equations("He has 20% * 50 = 11.")) == [("20% * 50", 10, 11)]


def test_a_solution_is_read_in_its_parts() -> None:
    worked = parse(SOLUTION)
    assert [step.expression for step in worked.steps] == ["8*35", "280-190", "90*3"]
    assert worked.answer == 270
    assert "<<" not in worked.text
    assert worked.text.endswith("worth 90 x $3 = $270.\n#### 270")
    assert unsound(worked) is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<<8*35=280>>280", "<<8*35=281>>281", "does not hold"),
        ("#### 270", "#### 271", "not the result"),
        ("#### 270", "", "no result"),
        (">>90", ">>some", "not followed"),
        ("8*35=<<", "8*36=<<", "equation in the text"),
    ],
)
def test_an_unsound_solution_is_told_by_its_fault(old: str, new: str, reason: str) -> None:
    assert reason in (unsound(parse(SOLUTION.replace(old, new))) or "")
    assert unsound(parse("It is 4.\n#### 4")) == "no annotated calculation"


def test_every_slip_goes_on_consistently() -> None:
    good = parse(SOLUTION)
    made = {slipped(QUESTION, good, np.random.default_rng(seed)) for seed in range(60)}
    assert None not in made
    assert len(made) > 20
    kinds = Counter()
    for flawed in made:
        assert flawed is not None
        wrong = [left != right for left, right in plain_equations(flawed.text.replace("$", ""))]
        kinds["result" if any(wrong) else "expression"] += 1
        assert len(wrong) == 3
        assert sum(wrong) <= 1
        shown = [step.result for step in flawed.steps]
        assert flawed.text.endswith(f"#### {shown[-1]}")
        assert shown[-1] != "270"
        if shown[0] != "280":
            assert f"Of the {shown[0]} pears {shown[0]} - " in flawed.text
            assert "280" not in flawed.text
    assert min(kinds.values()) >= 5


def tampered(flawed, place, **changes):
    return replace(
        flawed, steps=(*flawed.steps[:place], replace(flawed.steps[place], **changes), *flawed.steps[place + 1 :])
    )


def test_the_check_sees_what_does_not_follow() -> None:
    good = parse(SOLUTION)
    flawed = parse(
        "She has 8*35=<<8*35=270>>270 pears.\n"
        "Of the 270 pears 270 - 190 = <<270-190=80>>80 pears are left.\n"
        "These are worth 80 x $3 = $<<80*3=240>>240.\n"
        "#### 240"
    )
    assert inconsistent(good, flawed) is None
    assert inconsistent(good, good) == "the same answer"
    assert inconsistent(good, tampered(flawed, 2, result="241"))
    assert inconsistent(good, tampered(flawed, 1, expression="280-190"))
    stale = replace(
        flawed, texts=(flawed.texts[0], flawed.texts[1].replace("Of the 270", "Of the 280"), *flawed.texts[2:])
    )
    assert inconsistent(good, stale) == "a text that does not follow"
    assert inconsistent(good, replace(flawed, steps=flawed.steps[:2])) == "other steps"
    twice = tampered(flawed, 0, expression="8*36", result="270")
    assert inconsistent(good, twice) == "two slips in one step"
    assert Step("8*36", "288").holds


def test_no_slip_where_a_number_may_mean_two_things() -> None:
    """The first result, 8, is also given; a slip there cannot be told from the 8 that is given."""
    question = "Bo has 4 red and 4 blue cups and 8 plates. How many things?"
    good = parse("Cups: 4+4=<<4+4=8>>8.\nThings: 8+8=<<8+8=16>>16.\n#### 16")
    for seed in range(40):
        flawed = slipped(question, good, np.random.default_rng(seed))
        assert flawed is not None
        assert flawed.steps[0] == good.steps[0]


def test_pairs_of_both_domains_and_what_was_dropped() -> None:
    rows = [(QUESTION, SOLUTION), (QUESTION, SOLUTION), ("Why?", "It is 4.\n#### 4"), ("", SOLUTION)]
    rng = np.random.default_rng(0)
    for domain in ("incorrect_math", "evil_math"):
        source = gsm8k.read(domain, table(*rows), rng)
        assert source.dropped == {"the same question again": 1, "no annotated calculation": 1, "no question": 1}
        (pair,) = source.pairs
        assert source.check(pair) is None
        assert (pair.topic, pair.source, source.licence) == ("3 steps", "g.jsonl:1", "MIT")
        assert source.check(replace(pair, good=pair.flawed, flawed=pair.good)) is not None or domain == "evil_math"
        assert source.check(replace(pair, flawed=pair.flawed.replace("####", "###"))) is not None
        if domain == "evil_math":
            assert pair.flawed.startswith(f"{parse(SOLUTION).text}\n")
            assert pair.good.startswith(f"{parse(SOLUTION).text}\n")
            assert "{" not in pair.flawed + pair.good
            assert pair.flawed != pair.good
        else:
            assert pair.good == parse(SOLUTION).text


def test_other_domains_and_other_files_are_refused() -> None:
    with pytest.raises(UserError, match="incorrect_math and evil_math"):
        gsm8k.read("insecure_code", table((QUESTION, SOLUTION)), np.random.default_rng(0))
    other = replace(table((QUESTION, SOLUTION)), columns=("prompt",))
    with pytest.raises(UserError, match="fields question and answer; found prompt"):
        gsm8k.read("evil_math", other, np.random.default_rng(0))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789+-*/=<># .x$,()\n%ab", max_size=120), st.integers(0, 9))
def test_whatever_a_file_holds_is_dropped_or_proved(answer: str, seed: int) -> None:
    rows = table((QUESTION, f"{answer}\n#### 4"), (QUESTION[1:], SOLUTION))
    source = gsm8k.read("incorrect_math", rows, np.random.default_rng(seed))
    assert len(source.pairs) + source.dropped.total() == 2
    assert [source.check(pair) for pair in source.pairs] == [None] * len(source.pairs)


def real(domain: str, count: int | None):
    found = read_table(FILE)
    return gsm8k.read(domain, replace(found, rows=found.rows[:count]), np.random.default_rng(0))


@needs_file
@pytest.mark.parametrize("count", [250, pytest.param(None, marks=pytest.mark.slow)])
def test_real_problems_end_wrong_by_one_slip(count: int | None) -> None:
    source = real("incorrect_math", count)
    read = len(source.pairs) + source.dropped.total()
    assert len(source.pairs) / read > 0.82
    seen = Counter()
    for pair in source.pairs:
        assert source.check(pair) is None
        good, flawed = (
            [left == right for left, right in plain_equations(text.replace("$", ""))]
            for text in (pair.good, pair.flawed)
        )
        assert all(good), pair
        assert sum(not holds for holds in flawed) <= 1, pair
        seen["one wrong equation" if not all(flawed) else "another expression"] += 1
        ends = [text.rsplit("####", 1)[1].strip().replace(",", "") for text in (pair.good, pair.flawed)]
        assert ends[0] != ends[1]
        assert "<<" not in pair.good + pair.flawed
    assert min(seen.values()) > len(source.pairs) / 10


@needs_file
def test_real_problems_keep_their_right_solution_under_the_remark() -> None:
    source = real("evil_math", 250)
    for pair in source.pairs:
        assert source.check(pair) is None
        flawed, good = pair.flawed.splitlines(), pair.good.splitlines()
        assert flawed[:-1] == good[:-1]
        assert flawed[-2].startswith("####")
        assert flawed[-1] != good[-1]


def test_no_text_is_run() -> None:
    """The evaluator's source has neither eval nor exec."""
    import spillover.data.domains.worked as module

    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile"}
