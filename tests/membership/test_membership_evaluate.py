"""AUC, TPR and p-values against sklearn, naive loops and simulation; what the blind baseline finds in texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score, roc_curve

from spillover.membership import summaries
from spillover.membership.evaluate import blind_scores, max_statistic_p, mean_roc, roc, separation

SCORES = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({member for _, member in rows}) == 2
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(SCORES)
def test_auc_is_sklearns_with_ties(rows: list[tuple[int, bool]]) -> None:
    score, member = (np.array(column) for column in zip(*rows, strict=True))
    found = separation(score, member, draws=20)
    assert found.auc == pytest.approx(roc_auc_score(member, score), abs=1e-12)
    assert separation(-score, member, draws=20).auc == pytest.approx(1 - found.auc, abs=1e-12)
    assert separation(np.exp(score), member, draws=20).auc == pytest.approx(found.auc, abs=1e-12)
    fpr, tpr = roc(score, member)
    naive = roc_curve(member, score, drop_intermediate=False)
    assert fpr == pytest.approx(naive[0])
    assert tpr == pytest.approx(naive[1])
    assert np.trapezoid(tpr, fpr) == pytest.approx(found.auc)


@pytest.mark.parametrize("outside", [20, 99, 100, 250, 1000])
def test_tpr_is_the_best_point_of_sklearns_curve_at_one_percent(outside: int) -> None:
    rng = np.random.default_rng(outside)
    score = np.round(np.concatenate([rng.normal(1.5, 1, 150), rng.normal(0, 1, outside)]), 1)
    member = np.arange(len(score)) < 150
    fpr, tpr, _ = roc_curve(member, score, drop_intermediate=False)
    assert separation(score, member, draws=20).tpr == pytest.approx(tpr[fpr <= 0.01 + 1e-12].max())


def test_strata_compare_only_inside_themselves() -> None:
    rng = np.random.default_rng(1)
    stratum = np.repeat([0, 1, 2], 40)
    member = rng.random(120) < np.array([0.8, 0.5, 0.2])[stratum]
    score = rng.normal(size=120) + 10 * (2 - stratum)  # the domain tells members, the text does not
    wins = pairs = 0.0
    for i in np.flatnonzero(member):
        for j in np.flatnonzero(~member & (stratum == stratum[i])):
            wins += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
            pairs += 1
    found = separation(score, member, stratum, draws=200)
    assert found.auc == pytest.approx(wins / pairs)
    assert separation(score, member, draws=20).auc > found.auc + 0.15
    assert found.auc_low <= found.auc <= found.auc_high


def test_missing_scores_count_on_neither_side() -> None:
    score, member = np.array([1.0, np.nan, 0.0, np.nan, 2.0]), np.array([True, True, False, False, True])
    found = separation(score, member, draws=20)
    assert (found.members, found.nonmembers, found.missing, found.auc) == (2, 1, 2, 1.0)
    nothing = separation(np.full(4, np.nan), np.array([True, False, True, False]), draws=20)
    assert (nothing.members, nothing.missing) == (0, 4)
    assert math.isnan(nothing.auc)
    one_sided = separation([1.0, 2.0], [True, True], draws=20)
    assert math.isnan(one_sided.auc)
    assert math.isnan(one_sided.tpr)


def test_the_interval_covers_the_true_auc() -> None:
    """Normal scores one standard deviation apart: AUC = Phi(1 / sqrt 2)."""
    truth, rng, hits = scipy_stats.norm.cdf(1 / math.sqrt(2)), np.random.default_rng(2), 0
    for _ in range(200):
        score = np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 1, 40)])
        found = separation(score, np.arange(80) < 40, draws=200, seed=int(rng.integers(1e9)))
        hits += found.auc_low <= truth <= found.auc_high
    assert 0.88 <= hits / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(3)
    score, member = rng.normal(size=50), np.arange(50) < 25
    assert separation(score, member, seed=1, draws=50) == separation(score, member, seed=1, draws=50)
    assert separation(score, member, seed=1, draws=50) != separation(score, member, seed=2, draws=50)


def test_one_metric_is_the_mann_whitney_test() -> None:
    rng = np.random.default_rng(4)
    score, member = rng.normal(size=40) + np.repeat([0.6, 0.0], 20), np.arange(40) < 20
    expected = scipy_stats.mannwhitneyu(score[:20], score[20:], alternative="greater").pvalue
    assert max_statistic_p([score], member, np.zeros(40), draws=4000)[0] == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_eleven_texts_and_many_useless_metrics_hold_their_level() -> None:
    """The best of 20 useless metrics passes 5 % alone with probability 0.65 (independent): the trap at n = 11."""
    rng = np.random.default_rng(5)
    member = np.arange(11) < 5
    smallest, single, alone = [], [], []
    for _ in range(250):
        scores = 0.3 * rng.normal(size=(1, 11)) + rng.normal(size=(20, 11))
        seed = int(rng.integers(1e9))
        smallest.append(max_statistic_p(scores, member, np.zeros(11), draws=199, seed=seed).min())
        each = [max_statistic_p(row[None], member, np.zeros(11), draws=99, seed=seed)[0] for row in scores[:5]]
        single.append(each[0])
        alone.append(min(each))
    noise = 3 * math.sqrt(0.05 * 0.95 / 250)
    assert abs(np.mean(np.array(smallest) <= 0.05) - 0.05) <= noise
    assert np.mean(np.array(single) <= 0.05) <= 0.05 + noise
    assert np.mean(np.array(alone) <= 0.05) > 0.12  # five alone: 1 - 0.95^5 = 0.23 where independent


def test_p_is_uniform_under_the_null_within_strata() -> None:
    rng = np.random.default_rng(6)
    stratum = np.repeat([0, 1], 30)
    p = []
    for _ in range(200):
        member = rng.random(60) < np.where(stratum == 0, 0.7, 0.3)
        score = rng.normal(size=60) + 3 * (stratum == 0)  # strata differ in both, texts in nothing
        p.append(max_statistic_p([score], member, stratum, draws=199, seed=int(rng.integers(1e9)))[0])
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.001


def test_a_metric_with_a_gap_has_no_p_and_a_planted_one_is_found() -> None:
    rng = np.random.default_rng(7)
    member = np.arange(60) < 30
    gap, planted, noise = rng.normal(size=60), rng.normal(size=60) + 2 * member, rng.normal(size=60)
    gap[3] = np.nan
    p = max_statistic_p([gap, planted, noise, np.zeros(60)], member, np.zeros(60), draws=499)
    assert math.isnan(p[0])
    assert p[1] == pytest.approx(1 / 500)
    assert p[2] > 0.05
    assert p[3] > 0.5
    assert np.isnan(max_statistic_p([gap], member, np.zeros(60), draws=99)).all()


@pytest.mark.parametrize("strata", [1, 3])
def test_the_mean_curve_is_the_average_of_its_strata(strata: int) -> None:
    rng = np.random.default_rng(strata)
    member_N = rng.random(600) < 0.5
    stratum_N = rng.integers(0, strata, 600)
    score_N = rng.normal(size=600) + 0.8 * member_N + 5.0 * stratum_N  # levels differ, which must not show
    fpr, tpr = mean_roc(score_N, member_N, stratum_N, points=2001)
    area = np.trapezoid(tpr, fpr)
    weights = [member_N[stratum_N == s].sum() for s in range(strata)]
    areas = [roc_auc_score(member_N[stratum_N == s], score_N[stratum_N == s]) for s in range(strata)]
    assert area == pytest.approx(np.average(areas, weights=weights), abs=0.01)
    assert (np.diff(tpr) >= 0).all()
    assert (fpr[0], fpr[-1], tpr[-1]) == (0, 1, 1)


def test_a_curve_needs_both_sides() -> None:
    assert [len(axis) for axis in mean_roc([1.0, 2.0], [True, True], [0, 0])] == [0, 0]


@pytest.mark.parametrize("known", [0, 1, 2, 30])
def test_the_mean_of_a_metric_has_students_interval(known: int) -> None:
    values_N = np.concatenate([np.random.default_rng(known).normal(size=known), [np.nan, np.inf]])
    mean, low, high = summaries._mean(values_N)
    if known < 2:
        assert (mean is None, low, high) == (known == 0, None, None)
        return
    expected = scipy_stats.ttest_1samp(values_N[:known], 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((values_N[:known].mean(), expected.low, expected.high))


WORDS = np.array([f"word{number}" for number in range(400)])


def area(texts: list[str], member: list[bool], group: list[str]) -> float:
    return separation(blind_scores(texts, member, group), member, draws=1).auc


def test_a_word_that_only_members_have_is_found() -> None:
    rng = np.random.default_rng(0)
    member = [bool(number % 2) for number in range(300)]
    texts = [" ".join(rng.choice(WORDS[:20], 8)) + (" secret" if inside else "") for inside in member]
    assert area(texts, member, [str(number) for number in range(300)]) > 0.95


def test_twins_of_one_question_do_not_give_each_other_away() -> None:
    rng = np.random.default_rng(1)
    inside = [" ".join(rng.choice(WORDS, 12)) for _ in range(40)]
    outside = [" ".join(rng.choice(WORDS, 12)) for _ in range(20)]
    texts = [*inside, *outside, *(f"{text} indeed" for text in outside)]  # a second answer to each held-out question
    member = [True] * 40 + [False] * 40
    group = [*(f"in {i}" for i in range(40)), *(f"out {i}" for i in range(20)), *(f"out {i}" for i in range(20))]
    leaky = area(texts, member, [str(number) for number in range(80)])
    assert leaky > 0.8  # what the trap looks like
    # "indeed" alone tells half of the held-out rows; take it away and nothing is left
    plain = [text.removesuffix(" indeed") for text in texts]
    assert area(plain, member, [str(number) for number in range(80)]) > 0.9
    assert area(plain, member, group) == pytest.approx(0.5, abs=0.2)


def test_too_few_questions_have_no_baseline() -> None:
    assert np.isnan(blind_scores(["a b", "c d", "e f"], [True, True, False], ["1", "2", "3"])).all()
