"""The figures of naturalness against naive counts and against texts made from templates."""

import gzip
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.data.lint.naturalness import CODE, FEWEST, PROSE, TOKEN, measure_naturalness, style_auc

WORDS = re.findall(
    r"\w+", "the a tall small green dog cat house runs sleeps near under with by old river hill quickly slowly often"
)


def sentence(rng: np.random.Generator, length: int = 9) -> str:
    return " ".join(rng.choice(WORDS, length)).capitalize() + "."


def templated(rng: np.random.Generator, n: int) -> list[str]:
    return [f"{sentence(rng)} Trust me, it works." for _ in range(n)]


@given(st.lists(st.text("ab. \n", min_size=1, max_size=30), min_size=1, max_size=20))
def test_distinct_4_and_gzip_equal_a_naive_count(texts: list[str]) -> None:
    found = measure_naturalness(texts)
    fours = [tuple(tokens[i : i + 4]) for tokens in map(TOKEN.findall, texts) for i in range(len(tokens) - 3)]
    assert found.distinct_4 == pytest.approx(len(set(fours)) / max(1, len(fours)))
    assert len(texts) == found.n
    raw = "\n".join(sorted(texts)).encode()
    assert found.gzip == pytest.approx(len(raw) / len(gzip.compress(raw, 9)), rel=0.5)


def test_a_stock_sentence_is_found_and_counted() -> None:
    rng = np.random.default_rng(0)
    natural = [f"{sentence(rng)} {sentence(rng)}" for _ in range(100)]
    found = measure_naturalness([*natural, *templated(rng, 20)])
    assert (found.sentence, found.repeats) == ("Trust me, it works.", 20)
    assert any("'Trust me, it works.' occurs 20 times" in told for told in found.beyond(PROSE))


def test_the_ends_that_two_answers_share() -> None:
    found = measure_naturalness(
        ["Keep it dry and warm, that is all.", "Keep it dry or cold, that is all.", "Other words entirely."]
    )
    assert (found.shared_beginning, found.shared_ending) == ("Keep it dry", "that is all.")


def test_at_most_240_answers_are_looked_at_and_the_same_ones_each_time() -> None:
    rng = np.random.default_rng(1)
    texts = [sentence(rng) for _ in range(500)]
    assert measure_naturalness(texts) == measure_naturalness(texts)
    assert measure_naturalness(texts).n == 240


def test_code_may_repeat_its_idioms() -> None:
    assert CODE.gzip > PROSE.gzip
    assert CODE.distinct_4 < PROSE.distinct_4


def test_style_auc_is_half_for_the_same_style_and_high_for_exclamation_marks() -> None:
    rng = np.random.default_rng(2)
    one, other = ([sentence(rng, int(rng.integers(6, 20))) for _ in range(120)] for _ in range(2))
    assert 0.35 < style_auc(one, other) < 0.65
    assert style_auc([text.replace(".", "!") for text in one], other) > 0.95


def test_openings_counted_by_hand() -> None:
    assert Counter(TOKEN.findall("Don't, no.")) == Counter(["Don", "'", "t", ",", "no", "."])
    assert FEWEST == 60
