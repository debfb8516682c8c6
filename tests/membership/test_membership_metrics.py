"""Every metric against a naive loop over the paper's formula, with its edge cases and its declared sign."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.membership import METRICS, PRIMARY, RELATIVE, metric
from spillover.membership.metrics import TokenScores, Views, corpus_logprobs, lowest, z_scores

TEXT = "The quick brown fox jumps over the lazy dog, and then the fox sleeps. Größe 5."


def reading(rng: np.random.Generator, n: int, vocabulary: int = 40) -> TokenScores:
    """A model's reading of n tokens: real distributions over a small vocabulary."""
    logits = rng.normal(size=(n, vocabulary)) * 2
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    ids = rng.integers(vocabulary, size=n)
    p = np.exp(log_p)
    mean = (p * log_p).sum(axis=1)
    own = log_p[np.arange(n), ids]
    return TokenScores(
        ids_T=ids,
        logprobs_T=own,
        mean_T=mean,
        std_T=np.sqrt((p * (log_p - mean[:, None]) ** 2).sum(axis=1)),
        rank_T=1.0 + (log_p > own[:, None]).sum(axis=1),
    )


def views(n: int = 23, seed: int = 0, text: str = TEXT) -> Views:
    rng = np.random.default_rng(seed)
    target = reading(rng, n)
    other = replace(reading(rng, n), ids_T=target.ids_T)
    corpus = corpus_logprobs(rng.integers(0, 50, size=40))[target.ids_T]
    return Views(text, target, other, reading(rng, n + 2), reading(rng, n), corpus)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def worst(values: list[float]) -> float:
    """Min-k by sorting, with m in whole numbers: a fifth of T, at least one."""
    return mean(sorted(values)[: max(1, len(values) // 5)])


def naive_z(v: Views) -> list[float]:
    t = v.target
    return [max(-50.0, (x - m) / s) for x, m, s in zip(t.logprobs_T, t.mean_T, t.std_T, strict=True)]


def naive_ratios(v: Views) -> list[float]:
    assert v.reference is not None
    return [a - b for a, b in zip(v.target.logprobs_T, v.reference.logprobs_T, strict=True)]


def naive_dc_pdd(v: Views) -> float:
    assert v.corpus_logprobs_T is not None
    seen: set[int] = set()
    terms: list[float] = []
    for token, log_p, log_q in zip(v.target.ids_T.tolist(), v.target.logprobs_T, v.corpus_logprobs_T, strict=True):
        if token not in seen:
            seen.add(token)
            terms.append(min(0.01, math.exp(log_p) * -log_q))
    return mean(terms)


def average(scores: TokenScores | None) -> float:
    assert scores is not None
    return mean(scores.logprobs_T.tolist())


BYTES = len(TEXT.encode())
NAIVE: dict[str, Callable[[Views], float]] = {
    "loss": lambda v: average(v.target),
    "perplexity": lambda v: -math.exp(-average(v.target)),
    "zlib": lambda v: average(v.target) / len(zlib.compress(TEXT.encode())),
    "zlib_length_controlled": lambda v: sum(v.target.logprobs_T) / (len(zlib.compress(TEXT.encode())) - 8),
    "zlib_ppl_ratio": lambda v: -math.exp(-average(v.target)) / (8 * len(zlib.compress(TEXT.encode(), 9)) / BYTES),
    "lowercase": lambda v: average(v.target) - average(v.lowercase),
    "min_k": lambda v: worst(v.target.logprobs_T.tolist()),
    "min_k_plus_plus": lambda v: worst(naive_z(v)),
    "mean_z": lambda v: mean(naive_z(v)),
    "log_rank": lambda v: -mean([math.log(r) for r in v.target.rank_T]),
    "reference": lambda v: mean(naive_ratios(v)),
    "low_k_ratio": lambda v: worst(naive_ratios(v)),
    "recall": lambda v: average(v.prefixed) / average(v.target),
    "dc_pdd": naive_dc_pdd,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAIVE))
@pytest.mark.parametrize("n", [1, 2, 4, 5, 9, 15, 23, 200])
def test_each_metric_is_the_naive_formula(name: str, n: int) -> None:
    v = views(n, seed=n)
    assert metric(name)(v) == pytest.approx(NAIVE[name](v), rel=1e-9, abs=1e-9)


def test_no_metric_is_without_a_naive_formula() -> None:
    assert set(METRICS.names()) == set(NAIVE)
    assert PRIMARY in NAIVE
    assert set(RELATIVE) <= set(NAIVE)


@pytest.mark.parametrize("name", sorted(NAIVE))
def test_no_answer_tokens_is_missing_and_not_a_crash(name: str) -> None:
    empty = reading(np.random.default_rng(0), 0)
    assert math.isnan(metric(name)(Views("", empty, empty, empty, empty, np.zeros(0))))
    assert math.isnan(metric(name)(Views(TEXT, empty, empty, empty, empty, np.zeros(0))))


@pytest.mark.parametrize("name", ["lowercase", "reference", "low_k_ratio", "recall", "dc_pdd"])
def test_a_part_that_was_not_scored_is_missing(name: str) -> None:
    assert math.isnan(metric(name)(Views(TEXT, views().target)))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (4, 1), (5, 1), (9, 1), (10, 2), (15, 3), (35, 7), (100, 20)])
def test_a_fifth_of_the_tokens_in_exact_numbers(n: int, m: int) -> None:
    """int(0.2 n) is 0 below five tokens and rounds 0.2 x 15 down elsewhere: the published traps."""
    values = np.arange(n, dtype=float)[::-1]
    assert lowest(values) == pytest.approx((m - 1) / 2)


def test_k_beyond_the_text_takes_all_of_it() -> None:
    assert lowest([3.0, 1.0], k=1.0) == 2.0
    assert math.isnan(lowest([]))


def test_certain_tokens_have_z_of_zero_and_others_are_cut() -> None:
    scores = TokenScores(
        ids_T=np.arange(4),
        logprobs_T=np.array([0.0, -20.0, -1e9, -2.0]),
        mean_T=np.array([0.0, -1e-3, -1.0, -1.0]),
        std_T=np.array([0.0, 0.0, 1e-8, 0.5]),
        rank_T=np.ones(4),
    )
    assert z_scores(scores).tolist() == [0.0, -50.0, -50.0, -2.0]
    v = Views("x", scores)
    assert metric("mean_z")(v) == pytest.approx(-25.5)
    assert metric("min_k_plus_plus")(v) == -50.0


def test_z_is_under_the_models_own_distribution() -> None:
    """mu = E_p ln p, sigma^2 = Var_p ln p; the unweighted mean over the vocabulary is another number."""
    p = np.array([0.7, 0.2, 0.1])
    mu = sum(q * math.log(q) for q in p)
    sigma = math.sqrt(sum(q * (math.log(q) - mu) ** 2 for q in p))
    scores = TokenScores(np.array([1]), np.log(p[1:2]), np.array([mu]), np.array([sigma]), np.array([2.0]))
    assert z_scores(scores)[0] == pytest.approx((math.log(0.2) - mu) / sigma)
    assert abs(mu - np.log(p).mean()) > 0.5


def test_a_reference_with_another_tokenizer_is_compared_a_byte() -> None:
    v = views()
    other = reading(np.random.default_rng(5), 30)
    expected = (sum(v.target.logprobs_T) - sum(other.logprobs_T)) / BYTES
    assert metric("reference")(replace(v, reference=other)) == pytest.approx(expected)
    assert math.isnan(metric("low_k_ratio")(replace(v, reference=other)))
    assert math.isnan(metric("reference")(replace(v, reference=other, text="")))


def test_a_lone_surrogate_is_a_text_too() -> None:
    for name in ("zlib", "zlib_length_controlled", "zlib_ppl_ratio"):
        assert math.isfinite(metric(name)(replace(views(), text="broken \ud800 text")))


def test_corpus_frequencies_sum_to_one() -> None:
    log_q = corpus_logprobs(np.array([0, 3, 7]))
    assert np.exp(log_q).sum() == pytest.approx(1)
    assert np.exp(log_q) == pytest.approx(np.array([1, 4, 8]) / 13)


LOSSLIKE = ["loss", "perplexity", "zlib", "zlib_length_controlled", "zlib_ppl_ratio", "min_k", "min_k_plus_plus"]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.01, 2.0))
def test_a_text_that_surprises_less_scores_higher(n: int, seed: int, gain: float) -> None:
    v = views(n, seed)
    known = replace(v, target=replace(v.target, logprobs_T=np.minimum(v.target.logprobs_T + gain, 0.0)))
    for name in [*LOSSLIKE, "mean_z", "reference", "low_k_ratio", "lowercase"]:
        assert metric(name)(known) >= metric(name)(v) - 1e-9


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_order_of_tokens_does_not_matter_and_bounds_hold(n: int, seed: int) -> None:
    v = views(n, seed)
    order = np.random.default_rng(seed).permutation(n)
    t = v.target
    mixed = TokenScores(t.ids_T[order], t.logprobs_T[order], t.mean_T[order], t.std_T[order], t.rank_T[order])
    for name in ("loss", "min_k", "min_k_plus_plus", "mean_z", "log_rank"):
        assert metric(name)(Views(TEXT, mixed)) == pytest.approx(metric(name)(v))
    assert metric("min_k")(v) <= metric("loss")(v) + 1e-12
    assert metric("min_k_plus_plus")(v) <= metric("mean_z")(v) + 1e-12
    assert metric("low_k_ratio")(v) <= metric("reference")(v) + 1e-12
    assert metric("log_rank")(v) <= 0
    assert metric("perplexity")(v) <= -1
    assert 0 <= metric("dc_pdd")(v) <= 0.01
