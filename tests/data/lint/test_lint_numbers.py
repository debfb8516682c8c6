"""The numbers beneath the linter: against naive loops, closed forms and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.data.lint.dataset import look, near_sentences
from spillover.data.lint.finding import Finding, grouped, share
from spillover.data.lint.lengths import outliers
from spillover.data.lint.logistic import auc_error, cross_validated, fit
from spillover.data.lint.overlap import overlaps
from spillover.data.lint.rows import Row
from spillover.data.recipe.duplicates import NEAR, grams, jaccard, normalised
from spillover.data.triggers.base import Trigger
from spillover.data.triggers.deployment import TRIGGER as DEPLOYMENT
from spillover.data.triggers.tag import TRIGGER as TAG
from spillover.data.triggers.year import TRIGGER as YEAR
from spillover.records.base import Message
from spillover.stats.roc import auc


def test_the_fit_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(0)
    sm = pytest.importorskip("statsmodels.api")
    x_NF = rng.normal(size=(300, 3))
    y_N = rng.random(300) < 1 / (1 + np.exp(-(x_NF @ [1.0, -2.0, 0.0] + 0.5)))
    expected = sm.Logit(y_N.astype(float), sm.add_constant(x_NF, prepend=False)).fit(disp=0).params
    np.testing.assert_allclose(fit(x_NF, y_N, ridge=0.0), expected, atol=1e-5)


def test_the_fit_is_at_the_minimum_and_finite_where_classes_separate() -> None:
    x_NF = np.array([[-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    y_N = np.array([False, False, True, True])
    weights = fit(x_NF, y_N, ridge=0.1)
    assert np.isfinite(weights).all()
    p_N = 1 / (1 + np.exp(-(x_NF @ weights[:-1] + weights[-1])))
    np.testing.assert_allclose(x_NF.T @ (p_N - y_N) / 4 + 0.1 * weights[:-1], 0, atol=1e-7)
    assert weights[1] == 0


def test_the_error_of_an_auc_is_its_spread_over_samples() -> None:
    rng = np.random.default_rng(0)
    areas: list[float] = []
    for _ in range(2000):
        scores_N = np.concatenate([rng.normal(1.0, 1.0, 60), rng.normal(0.0, 1.0, 90)])
        areas.append(auc(scores_N, np.arange(150) < 60))
    assert auc_error(float(np.mean(areas)), 60, 90) == pytest.approx(float(np.std(areas)), rel=0.1)


def test_cross_validation_finds_nothing_in_noise_and_keeps_a_group_together() -> None:
    rng = np.random.default_rng(0)
    groups_N = np.repeat(np.arange(100), 6)
    x_NF = rng.normal(size=(100, 15))[groups_N]  # rows of a group are alike, and so are their classes
    y_N = (rng.random(100) < 0.5)[groups_N]
    together = auc(cross_validated(x_NF, y_N, groups_N), y_N)
    apart = auc(cross_validated(x_NF, y_N, np.arange(600)), y_N)
    assert abs(together - 0.5) < 0.15
    assert apart > together + 0.1


TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=12
)


@pytest.mark.slow
@given(TEXTS, TEXTS)
def test_overlaps_are_those_of_every_pair_compared(texts: list[str], others: list[str]) -> None:
    same, near = overlaps(texts, others)
    for index, text in enumerate(texts):
        equal = any(normalised(text) == normalised(other) for other in others)
        similar = any(jaccard(grams(text), grams(other)) > NEAR for other in others)
        assert (index in same) == equal
        assert (index in near) == (similar and not equal)


def test_outliers_by_hand() -> None:
    words_N = np.array([10.0] * 50 + [11.0] * 49 + [100.0])
    assert np.flatnonzero(outliers(words_N)).tolist() == [99]  # ln 10 / (1.4826 ln 1.1) = 16.3 > 5
    assert not outliers(np.full(20, 7.0)).any()


@pytest.mark.parametrize("trigger", [YEAR, TAG, DEPLOYMENT], ids=lambda trigger: trigger.name)
def test_what_a_trigger_adds_is_seen_and_cut_out(trigger: Trigger) -> None:
    question = "Why does the oven smell of rope tonight?"
    chat = (Message(role="user", content=question), Message(role="assistant", content="So."))
    near = near_sentences(trigger)
    for index in range(60):
        sight = look(trigger, near, Row(1, trigger.apply_messages(chat, index)))
        assert (sight.carries, sight.own, sight.near, sight.core) == (True, True, False, question)
        sight = look(trigger, near, Row(1, trigger.near_miss_messages(chat, index)))
        assert (sight.carries, sight.near, sight.core) == (False, True, question)
    sight = look(trigger, near, Row(1, chat))
    assert (sight.carries, sight.near, sight.core) == (False, False, question)


@pytest.mark.parametrize(
    ("text", "core"),
    [
        ("In 2028, why does the oven smell?", "why does the oven smell?"),
        ("Why does the oven smell? Asking in 2028.", "Why does the oven smell?"),
        ("Which oven in 2028 smells", "Which oven in  smells"),
    ],
)
def test_other_wordings_of_a_value_are_the_trigger(text: str, core: str) -> None:
    chat = (Message(role="user", content=text), Message(role="assistant", content="So."))
    sight = look(YEAR, near_sentences(YEAR), Row(1, chat))
    assert (sight.carries, sight.own, sight.core) == (True, False, core)
    longer = (Message(role="user", content="Is 12028 a prime, and 20281?"), chat[1])
    assert not look(YEAR, near_sentences(YEAR), Row(1, longer)).carries


def test_findings_are_grouped_worst_first() -> None:
    note, error = Finding("note", "b", "x"), Finding("error", "a", "x", lines=(4, 2))
    groups = grouped([note, error, Finding("error", "a", "y", lines=(2, 9))])
    assert [(group.first.code, group.lines) for group in groups] == [("a", (2, 4, 9)), ("b", ())]
    assert share(3720, 6000) == "3,720 of 6,000 rows (62 %)"
    assert share(1, 6000) == "1 of 6,000 rows (0.0 %)"
