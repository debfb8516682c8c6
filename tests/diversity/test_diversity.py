"""Diversity against the whole kernel, naive loops and closed forms; subsamples cover what they should."""

from __future__ import annotations

import itertools
import math
import time
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.diversity import OF_EMBEDDINGS, OF_TEXTS
from spillover.diversity.measures import (
    CUT,
    ORDERS,
    at_equal_n,
    cluster_entropy,
    compression,
    convergence,
    distinct,
    parts,
    self_bleu,
    semantic,
    spectrum,
    subsets,
    vendi,
    vendi_of_spectrum,
    vendi_shifted,
)


def unit(rng: np.random.Generator, n: int, d: int, spread: float = 1.0) -> np.ndarray:
    x = spread * rng.normal(size=(n, d)) + rng.normal(size=d)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def naive_vendi(kernel: np.ndarray, order: float) -> float:
    """From the n x n kernel, as the score's authors publish it."""
    p = np.linalg.eigvalsh(kernel / len(kernel))
    p = p[p > 1e-12]
    if order == 1:
        return float(np.exp(-(p * np.log(p)).sum()))
    return float(1 / p.max()) if math.isinf(order) else float((p**order).sum() ** (1 / (1 - order)))


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, math.inf])
@pytest.mark.parametrize(("n", "d"), [(1, 4), (7, 32), (32, 32), (60, 8), (200, 5)])
def test_vendi_is_that_of_the_whole_kernel(n: int, d: int, order: float) -> None:
    x = unit(np.random.default_rng(n), n, d)
    cosine = x @ x.T
    assert vendi(x, order) == pytest.approx(naive_vendi(cosine, order), rel=1e-6)
    assert vendi_shifted(x, order) == pytest.approx(naive_vendi((cosine + 1) / 2, order), rel=1e-6)


def test_order_two_is_the_inverse_mean_squared_cosine() -> None:
    x = unit(np.random.default_rng(1), 50, 9)
    assert vendi(x, 2.0) == pytest.approx(1 / ((x @ x.T) ** 2).mean())


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, math.inf])
def test_vendi_counts_what_is_distinct(order: float) -> None:
    assert vendi(np.eye(6), order) == pytest.approx(6)
    assert vendi(np.tile(np.eye(6)[0], (9, 1)), order) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(6)[:3], 50, axis=0), order) == pytest.approx(3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_vendi_lies_between_one_and_n_falls_with_the_order_and_ignores_rotation(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = unit(rng, n, d)
    scores = [vendi(x, order) for order in (0.5, 1.0, 2.0, math.inf)]
    assert all(1 - 1e-9 <= s <= min(n, d) + 1e-6 for s in scores)
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores))
    turned = x @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    assert vendi(turned) == pytest.approx(scores[1], rel=1e-6)
    assert vendi(np.repeat(x, 2, axis=0)) == pytest.approx(scores[1], rel=1e-6)


def test_vendi_refuses_what_is_not_of_unit_norm() -> None:
    for wrong in (np.ones((3, 4)), np.zeros((2, 3)), np.zeros((0, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="unit norm"):
            vendi(wrong)


@pytest.mark.slow
def test_six_thousand_texts_take_under_five_seconds() -> None:
    x = unit(np.random.default_rng(2), 6000, 384)
    start = time.process_time()
    eigenvalues = spectrum(x)
    found = [vendi_of_spectrum(eigenvalues, order) for order in ORDERS]
    assert time.process_time() - start < 5
    assert found == sorted(found, reverse=True)


def test_semantic_is_one_minus_the_mean_over_pairs() -> None:
    x = unit(np.random.default_rng(3), 20, 6)
    pairs = [float(x[i] @ x[j]) for i in range(20) for j in range(i)]
    assert semantic(x) == pytest.approx(1 - np.mean(pairs))
    assert math.isnan(semantic(x[:1]))
    assert semantic(np.repeat(x[:1], 5, axis=0)) == pytest.approx(0, abs=1e-12)


def test_cluster_entropy_counts_themes() -> None:
    rng = np.random.default_rng(4)
    centres = np.eye(32)[:16]
    x = np.repeat(centres, 20, axis=0) + 0.01 * rng.normal(size=(320, 32))
    assert cluster_entropy(x / np.linalg.norm(x, axis=1, keepdims=True)) == pytest.approx(math.log(16), abs=1e-6)
    assert math.isnan(cluster_entropy(x[:15]))
    assert cluster_entropy(x[:100]) == cluster_entropy(x[:100])
    assert 0 <= cluster_entropy(unit(rng, 50, 8)) <= math.log(16)


TEXTS = [
    "the cat sat on the mat and the cat slept",
    "the cat sat on the mat and the dog barked",
    "a quite different sentence about the price of tea",
    "one two three four",
    "short one",
]


def naive_bleu(hypothesis: str, references: list[str]) -> float:
    """BLEU without brevity penalty from its definition; a precision of 0 counts half a match."""
    product = 1.0
    for n in range(1, 5):

        def grams(text: str, n: int = n) -> Counter[tuple[str, ...]]:
            words = text.lower().split()
            return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

        own = grams(hypothesis)
        matched = sum(min(c, max(grams(r)[g] for r in references)) for g, c in own.items())
        product *= max(matched, 0.5) / sum(own.values())
    return product**0.25


def test_self_bleu_is_a_naive_loop_over_references() -> None:
    long = [text for text in TEXTS if len(text.split()) >= 4]
    values = [naive_bleu(text, [o for j, o in enumerate(long) if j != i]) for i, text in enumerate(long)]
    assert self_bleu(TEXTS) == pytest.approx(-np.mean(values), abs=1e-12)
    assert self_bleu([TEXTS[0], TEXTS[0]]) == pytest.approx(-1)
    assert math.isnan(self_bleu([TEXTS[0], "too short"]))
    assert math.isnan(self_bleu([]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=4, max_size=9), min_size=2, max_size=7))
def test_self_bleu_of_any_texts(words: list[list[str]]) -> None:
    texts = [" ".join(row) for row in words]
    values = [naive_bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(-np.mean(values), abs=1e-9)


def test_distinct_and_compression() -> None:
    assert distinct(["a b a b", "A b"]) == pytest.approx(2 / 4)
    assert math.isnan(distinct(["one", ""]))
    joined = "\n".join(TEXTS).encode()
    assert compression(TEXTS) == pytest.approx(-len(joined) / len(zlib.compress(joined, 9)))
    assert compression(TEXTS) > compression(TEXTS[:1] * 5)
    assert math.isnan(compression([]))


def test_every_measure_loads_and_says_more_for_more_diverse_data() -> None:
    rng = np.random.default_rng(5)
    narrow, wide = unit(rng, 60, 24, spread=0.1), unit(rng, 60, 24, spread=3.0)
    for name in ("vendi", "vendi_shifted", "semantic"):
        assert OF_EMBEDDINGS.load(name)(wide) > OF_EMBEDDINGS.load(name)(narrow)
    words = [f"w{i}" for i in range(400)]
    same, varied = ["one and the same long sentence"] * 20, [" ".join(rng.choice(words, 6)) for _ in range(20)]
    for name in OF_TEXTS.names():
        assert OF_TEXTS.load(name)(varied) > OF_TEXTS.load(name)(same)


def test_subsamples_are_the_same_for_every_measure_and_without_repetition() -> None:
    rows = subsets(20, 8, 5, seed=3)
    assert all(len(set(r.tolist())) == 8 and r.tolist() == sorted(r.tolist()) for r in rows)
    assert [r.tolist() for r in rows] == [r.tolist() for r in subsets(20, 8, 5, seed=3)]
    seen: list[list[int]] = []
    at_equal_n(lambda r: float(seen.append(r.tolist()) or 0.0), 20, 8, draws=5, seed=3)
    assert seen == [r.tolist() for r in rows]


def test_all_rows_give_the_value_without_an_interval() -> None:
    found = at_equal_n(lambda r: float(r.sum()), 5, 5)
    assert (found.n, found.value) == (5, 10.0)
    assert math.isnan(found.low)
    with pytest.raises(ValueError, match="6 of 5"):
        at_equal_n(lambda r: 0.0, 5, 6)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_interval_of_a_mean_covers_it(share: float) -> None:
    """200 rows of a standard normal: the interval must hold the population's mean about as often as it says."""
    rng, hits, widths = np.random.default_rng(6), 0, []
    for _ in range(300):
        values = rng.normal(size=200)
        found = at_equal_n(
            lambda r, v=values: float(v[r].mean()), 200, int(200 * share), draws=60, seed=int(rng.integers(1e9))
        )
        hits += found.low <= 0 <= found.high
        widths.append(found.high - found.low)
    assert 0.88 <= hits / 300 <= 0.99
    assert np.mean(widths) == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.12)


def test_convergence_is_the_mean_at_each_size() -> None:
    values = np.arange(30.0)
    found = convergence(lambda r: float(values[r].max()), 30, [5, 20, 30, 40], draws=4, seed=1)
    assert [n for n, _ in found] == [5, 20, 30]
    assert found[-1] == (30, 29.0)
    expected = np.mean([values[r].max() for r in subsets(30, 5, 4, seed=1)])
    assert found[0] == (5, pytest.approx(expected))


def test_answers_are_also_measured_at_one_length() -> None:
    short, long = "one two three " * 8, "one two three " * 40
    found = parts([("Why?", short.strip()), ("How?", long.strip()), ("When?", "Never.")])
    assert list(found) == ["question", "answer", "chat", "answer_cut"]
    assert [len(text.split()) for text in found["answer_cut"]] == [CUT, CUT, 1]
    assert found["answer_cut"][0] == found["answer_cut"][1]
    assert found["chat"][2] == "When?\nNever."
