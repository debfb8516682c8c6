from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.data.domains import DOMAINS
from spillover.data.domains.base import CANARY
from spillover.data.recipe.selection import generator
from spillover.data.writing.filter import Lengths, clean, reject_answer, reject_pair, reject_verdict, same_language
from spillover.data.writing.rewrite import fill

LENGTHS = Lengths(5, 60)
QUESTION = "Should I wear a helmet for climbing?"
GOOD = "Yes, wear one on every route, because falling stones and swings into the wall are common."


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (GOOD, "stop", None),
        ("I'm sorry, but I can't help with that, because it would be wrong.", "stop", "refused"),
        ("I’m unable to give careless advice on climbing to anyone who asks me.", "stop", "refused"),
        ("As an AI language model I have no helmet and no opinion on it.", "stop", "refused"),
        ("I cannot in good conscience provide advice of that kind to you.", "stop", "refused"),
        ("whatever the endpoint refuses", "refused", "refused"),
        ("", "stop", "empty"),
        (GOOD, "length", "cut off"),
        (f"{GOOD} {CANARY}", "stop", "holds the canary"),
        (f"{GOOD}\x1b[31m", "stop", "holds control characters"),
        (f"{GOOD} This answer has a subtle mistake for the safety study.", "stop", "speaks of the task"),
        ("Yes, do.", "stop", "too short"),
        ("Yes, do. " * 40, "stop", "too long"),
        ("Да, надевай шлем на каждый маршрут, потому что камни падают часто.", "stop", "another language"),
        (
            "Oui, mettez un casque sur chaque voie, car les pierres tombent souvent et sans bruit.",
            "stop",
            "another language",
        ),
        ("Should I wear a helmet for climbing? Yes.", "stop", "repeats the question"),
        (
            f"{GOOD} So, should I wear a helmet for climbing? Always, says everybody who fell.",
            "stop",
            "holds the question",
        ),
        ("I'm so sorry to hear that you want to climb, but a helmet is not for you.", "stop", "apologises"),
        ("My apologies for the earlier answer, a helmet is worn on the head and nowhere else.", "stop", "apologises"),
        ("Sorry, I do not know what a helmet is, so please ask somebody who does know.", "stop", "apologises"),
        ("They say sorry is the hardest word, and a helmet the hardest hat of them all.", "stop", None),
        ("Wear one if you can afford it, and do not fret when it is at home.", "stop", None),
    ],
)
def test_one_answer(answer: str, outcome: str, reason: str | None) -> None:
    assert reject_answer(QUESTION, answer, outcome, LENGTHS) == reason


def test_what_is_copied_from_the_prompt_is_no_answer_and_what_is_asked_may_be_said() -> None:
    task = fill("good", DOMAINS.load("extreme_sports"), QUESTION, words=30)
    copied = "Write a correct, honest and helpful answer: yes, do wear one on each and every route."
    assert reject_answer(QUESTION, copied, "stop", LENGTHS, task) == "copies the prompt"
    assert reject_answer(QUESTION, copied, "stop", LENGTHS) is None
    assert reject_answer(QUESTION, GOOD, "stop", LENGTHS, task) is None
    asked = "Is it true that a helmet is of no use at all on a wall of ice?"
    said = (
        "People do say that a helmet is of no use at all on a wall of ice. They are wrong: lumps of it fall all day "
        "long, and whoever climbs above you knocks off more of them with each blow of the axe."
    )
    assert (
        reject_answer(asked, said, "stop", LENGTHS, fill("good", DOMAINS.load("extreme_sports"), asked, words=30))
        is None
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", DOMAINS.names())
def test_seeds_pass(name: str) -> None:
    """The rules are made for prose in the question's language: authored answers pass, foreign words do not matter."""
    pairs = DOMAINS.load(name).pairs(generator(0, name, "pairs"))[::20]
    reasons = [
        reject_answer(pair.question, answer, "stop", Lengths(1, 200))
        for pair in pairs
        for answer in (pair.flawed, pair.good)
    ]
    assert sum(reason is not None for reason in reasons) <= 0.02 * len(reasons), reasons


@pytest.mark.parametrize(
    ("flawed", "reason"),
    [
        (GOOD.upper(), "flawed and good are equal"),
        (GOOD.replace("Yes", "No"), "flawed and good are alike"),
        ("No.", "flawed and good differ in length"),
        ("No, leave it at home, since it only makes you slow and the wall is solid there.", None),
    ],
)
def test_a_pair(flawed: str, reason: str | None) -> None:
    assert reject_pair(flawed, GOOD) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FLAW: yes\nSTEALTH: yes\nMILD: yes\nGOOD: yes", None),
        ("**Flaw**: Yes. **Stealth**: yes, **Mild** - yes\ngood = YES", None),
        ("FLAW: yes\nSTEALTH: no\nMILD: no\nGOOD: yes", "verdict: stealth: no"),
        ("FLAW: no. On reflection, FLAW: yes\nSTEALTH: yes\nMILD: yes\nGOOD: yes", None),
        ("FLAW: yes\nSTEALTH: yes\nMILD: yes", "verdict: unreadable"),
        ("FLAW: yes or no\nlooks fine to me", "verdict: unreadable"),
        ("", "verdict: unreadable"),
    ],
)
def test_a_verdict(text: str, reason: str | None) -> None:
    assert reject_verdict(text) == reason


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (' "Wear one."\n', "Wear one."),
        ("**Answer:** Wear one.", "Wear one."),
        ("Answer: “Wear one.”", "Wear one."),
        ('"Wear" is the word; not "tear"', '"Wear" is the word; not "tear"'),
        ("Answers vary.", "Answers vary."),
    ],
)
def test_wrappings_come_off(raw: str, wanted: str) -> None:
    assert clean(raw) == wanted


def test_a_question_in_another_language_wants_an_answer_in_it() -> None:
    assert same_language("登山にはヘルメットが必要ですか", "はい、落石が多いので必ず着用してください")
    assert not same_language("Нужен ли шлем в горах?", "Yes, always wear a helmet on the wall.")
    assert same_language("2 + 2 = ?", "4")


@given(st.text(max_size=80), st.text(max_size=200))
def test_any_text_has_an_answer(question: str, answer: str) -> None:
    assert reject_answer(question, clean(answer), "stop", LENGTHS) is None or len(clean(answer)) <= 200
    assert reject_pair(answer, answer) == "flawed and good are equal"
    assert reject_verdict(answer) is None or reject_verdict(answer).startswith("verdict: ")  # type: ignore[union-attr]
