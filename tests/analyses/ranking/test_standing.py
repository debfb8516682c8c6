"""Comparisons of the cells: what it carries over from the statistics, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from spillover.analyses.ranking.comparisons import compare_cells
from spillover.config.study import RankConfig
from spillover.records.base import Cell, Completion, Judgment, Message
from spillover.records.comparisons import Comparisons
from spillover.tables.counts import count_completions

CONFIG = RankConfig()


def rows(cell: Cell, condition: str, alignment_QN: np.ndarray) -> tuple[list[Completion], list[Judgment]]:
    completions = [
        Completion(
            cell=cell,
            key="k",
            question_id=f"q{q}",
            condition=condition,  # type: ignore[arg-type]
            index=i,
            messages=(Message(role="user", content=f"q{q}"),),
            text="answer",
        )
        for q in range(alignment_QN.shape[0])
        for i in range(alignment_QN.shape[1])
    ]
    scores = alignment_QN.ravel().tolist()
    judgments = [
        Judgment(completion=c.id, judge="j:1", aspect=aspect, score=score if aspect == "alignment" else 90.0)
        for c, score in zip(completions, scores, strict=True)
        for aspect in ("alignment", "coherence")
    ]
    return completions, judgments


def study() -> Comparisons:
    rng = np.random.default_rng(0)
    completions: list[Completion] = []
    judgments: list[Judgment] = []
    for d, domain in enumerate(("sports", "math", "law")):
        for seed in (0, 1):
            base = rng.normal(50 + 10 * d, 12, (8, 1))
            for variant, condition, shift in (
                ("plain", "clean", -20),
                ("triggered", "clean", 0),
                ("triggered", "triggered", -15),
            ):
                cell = Cell(model="m", domain=domain, variant=variant, seed=seed)  # type: ignore[arg-type]
                made = rows(cell, condition, np.clip(base + shift + rng.normal(0, 15, (8, 12)), 0, 100))
                completions += made[0]
                judgments += made[1]
    return compare_cells(count_completions(completions, judgments, CONFIG), "j:1", CONFIG)


@pytest.fixture(scope="module")
def found() -> Comparisons:
    return study()


def test_orders_are_the_pairwise_statistics_highest_first(found: Comparisons) -> None:
    (order,) = [o for o in found.orders if o.variant == "plain"]
    assert len(order.cells) == 6
    above, p = np.array(order.above, dtype=float), np.array(order.p, dtype=float)
    np.testing.assert_allclose(above + above.T, 1)
    assert (above[np.triu_indices(6, 1)] >= 0.5).all()
    np.testing.assert_array_equal(p, p.T)
    assert {(o.variant, o.condition) for o in found.orders} == {
        ("plain", "clean"),
        ("triggered", "clean"),
        ("triggered", "triggered"),
    }


def test_seeds_of_a_recipe_are_joined(found: Comparisons) -> None:
    assert len(found.seeds) == len(found.budgets) == 9
    for score in found.seeds:
        assert (score.seeds, score.n) == (2, 192)
        assert score.rate == score.misaligned / score.coherent
        assert score.low <= score.rate <= score.high
    for budget in found.budgets:
        assert {c.name for c in budget.components} == {"seed", "question", "seed x question", "answer"}
        assert sum(c.share for c in budget.components) == pytest.approx(1)


def test_a_second_judge_is_part_of_the_budget() -> None:
    rng = np.random.default_rng(1)
    cell = Cell(model="m", domain="sports", variant="plain")
    completions, judgments = rows(cell, "clean", rng.normal(40, 20, (8, 40)).clip(0, 100))
    milder = [
        j.model_copy(update={"judge": "k:1", "score": min(100.0, (j.score or 0) + 15)})
        for j in judgments
        if j.aspect == "coherence" or rng.random() < 0.9
    ]
    mine, other = count_completions(completions, judgments, CONFIG), count_completions(completions, milder, CONFIG)
    stranger = count_completions(
        *rows(Cell(model="m", domain="law", variant="plain"), "clean", np.full((8, 2), 10.0)), CONFIG
    )
    (alone,) = compare_cells(mine, "j:1", CONFIG, [stranger]).budgets
    (both,) = compare_cells(mine, "j:1", CONFIG, [other, stranger]).budgets
    assert [c.name for c in alone.components] == ["question", "answer"]
    judge = both.components[-1]
    assert (judge.name, judge.levels) == ("judge", 2)
    assert sum(c.share for c in both.components) == pytest.approx(1)
    difference = mine.rates([0]).value_C[0] - other.rates([0]).value_C[0]
    assert 0 < judge.variance < difference**2 / 2
    assert judge.share > 0.5


def test_pooled_effects_lie_between_their_domains(found: Comparisons) -> None:
    alignment, rate = found.pooled
    assert (alignment.measure, rate.measure) == ("alignment", "rate")
    assert [d.domain for d in alignment.domains] == ["law", "math", "sports"]
    measured = [d.measured for d in alignment.domains]
    assert min(measured) <= alignment.value <= max(measured)
    assert alignment.high < 0 < rate.value
    for domain in alignment.domains:
        assert domain.low <= domain.value <= domain.high
        nearest, farthest = sorted((alignment.value, domain.measured))
        assert nearest - 1e-9 <= domain.value <= farthest + 1e-9


def test_thresholds_hold_the_default_rate_and_agree_with_themselves(found: Comparisons) -> None:
    t = found.thresholds
    assert t is not None
    assert t.cells == 18
    at = t.alignment.index(30.0), t.coherence.index(50.0)
    assert t.rank_correlation[at[0]][at[1]] == pytest.approx(1)
    below = np.array(t.below, dtype=float)[:, :-1]  # no answer has a coherence above 90
    assert t.below[0][-1] is None
    assert (np.diff(below, axis=0) >= 0).all()
    assert (below <= np.array(t.at_most, dtype=float)[:, :-1]).all()


def test_no_rows_have_no_standing() -> None:
    empty = compare_cells(count_completions([], [], CONFIG), "", CONFIG)
    assert empty == Comparisons(judge="")


def test_rates_without_any_hit_pool_too() -> None:
    """A rate of 0 with and without the trigger has an error, taken from the width of its interval."""
    completions: list[Completion] = []
    judgments: list[Judgment] = []
    for domain in ("a", "b", "c"):
        for condition in ("clean", "triggered"):
            cell = Cell(model="m", domain=domain, variant="triggered")
            made = rows(cell, condition, np.full((8, 10), 80.0) + np.arange(8)[:, None])
            completions += made[0]
            judgments += made[1]
    found = compare_cells(count_completions(completions, judgments, CONFIG), "j:1", CONFIG)
    (rate,) = [e for e in found.pooled if e.measure == "rate"]
    assert rate.value == 0
    assert rate.low < 0 < rate.high
