"""Points, slopes and comparisons with random directions, against statsmodels, the ranking and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from spillover.analyses.ranking import compute as rank
from spillover.config.study import RankConfig
from spillover.directions.steering_effects import SteeredCounts, slope
from spillover.records.base import Cell, Judgment, Message
from spillover.records.steering import WITHOUT_STEERING, Steering, SteeringSample

BASE = Cell(model="m", domain="none", variant="base", dose=0.0)
CONFIG = RankConfig()


def sample(steering: Steering, question: int, index: int) -> SteeringSample:
    return SteeringSample(
        cell=BASE, key="k", question_id=f"q{question}", index=index, text="t", steering=steering,
        amount=steering.coefficient, messages=(Message(role="user", content=f"Question {question}"),),
    )  # fmt: skip


def judged(row: SteeringSample, alignment: float | None, coherence: float = 90.0) -> tuple[Judgment, Judgment]:
    status = "refused" if alignment is None else "scored"
    return (
        Judgment(completion=row.id, judge="j", aspect="alignment", score=alignment, status=status),
        Judgment(completion=row.id, judge="j", aspect="coherence", score=coherence),
    )


def add(coefficient: float, direction: str = "gore", control: int | None = None) -> Steering:
    return Steering(
        direction=direction, control=control, operation="add", at="answer", layer=3, coefficient=coefficient
    )


def answered(steerings: list[Steering], seed: int = 0, questions: int = 6, n: int = 3) -> SteeredCounts:
    rng = np.random.default_rng(seed)
    rows, verdicts = list[SteeringSample](), list[Judgment]()
    for steering in steerings:
        for question in range(questions):
            for index in range(n - question % 2):  # unequal numbers
                row = sample(steering, question, index)
                bad = rng.random() < 0.1 + 0.5 * steering.coefficient + 0.1 * (question % 3)
                score = None if rng.random() < 0.1 else float(rng.integers(0, 30) if bad else rng.integers(50, 101))
                rows.append(row)
                verdicts += judged(row, score, float(rng.choice([90.0, 90.0, 20.0])))
    return SteeredCounts(rows, verdicts, CONFIG)


def test_the_same_answer_under_two_interventions_has_two_ids() -> None:
    rows = [
        sample(WITHOUT_STEERING, 0, 0),
        sample(add(1.0), 0, 0),
        sample(add(2.0), 0, 0),
        sample(add(1.0, "random", 1), 0, 0),
    ]
    assert len({row.id for row in rows}) == 4
    assert SteeringSample.model_validate_json(rows[1].model_dump_json()) == rows[1]


def test_a_point_is_scored_as_a_cell_is() -> None:
    steerings = [WITHOUT_STEERING, add(0.2), add(0.4)]
    found = answered(steerings)
    rng = np.random.default_rng(0)
    points = found.points()
    assert [point.steering for point in points] == steerings
    for place, point in enumerate(points):
        rng = np.random.default_rng(0)
        rows, verdicts = list[SteeringSample](), list[Judgment]()
        for steering in steerings:
            for question in range(6):
                for index in range(3 - question % 2):
                    bad = rng.random() < 0.1 + 0.5 * steering.coefficient + 0.1 * (question % 3)
                    score = None if rng.random() < 0.1 else float(rng.integers(0, 30) if bad else rng.integers(50, 101))
                    coherence = float(rng.choice([90.0, 90.0, 20.0]))
                    if steering == steerings[place]:
                        rows.append(sample(steering, question, index))
                        verdicts += judged(rows[-1], score, coherence)
        (score,) = rank.score_cells(rows, verdicts, CONFIG).scores
        for name in ("n", "counts", "incoherent", "coherent", "misaligned", "questions", "rate", "low", "high"):
            assert getattr(point, name) == getattr(score, name), name
        assert point.mean_alignment == score.mean_alignment
        assert point.coherent_share == score.coherent / score.n == found.coherent_share(point.steering)
    assert points[0].rate_change is None
    assert points[2].rate_change is not None
    assert points[2].rate is not None
    assert points[0].rate is not None
    assert points[2].rate_change.value == pytest.approx(points[2].rate - points[0].rate)
    assert points[2].alignment_change is not None
    assert points[2].alignment_change.low is not None


@pytest.mark.parametrize("seed", range(4))
def test_a_slope_is_that_of_least_squares_with_errors_clustered_by_question(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        (c, q, 2.0 * c + 0.3 * q + rng.normal() * (1 + q))
        for c in (0.0, 0.1, 0.4)
        for q in range(5)
        for _ in range(rng.integers(1, 4))
    ]
    c_N, q_N, y_N = (np.array(column) for column in zip(*rows, strict=True))
    c_K = np.unique(c_N)
    sum_KQ, n_KQ = (
        np.array([[w[(c_N == c) & (q_N == q)].sum() for q in range(5)] for c in c_K]) for w in (y_N, np.ones(len(y_N)))
    )
    found = slope(c_K, sum_KQ, n_KQ, 0.95)
    fit = sm.OLS(y_N, sm.add_constant(c_N)).fit(
        cov_type="cluster", cov_kwds={"groups": q_N, "use_correction": False, "df_correction": True}, use_t=True
    )
    assert found.value == pytest.approx(fit.params[1])
    error = fit.bse[1] * np.sqrt(5 / 4)
    from scipy.stats import t

    assert found.low == pytest.approx(fit.params[1] - t.ppf(0.975, 4) * error)
    assert found.high == pytest.approx(fit.params[1] + t.ppf(0.975, 4) * error)
    assert found.p == pytest.approx(2 * t.sf(abs(fit.params[1] / error), 4))


def test_a_slope_needs_two_coefficients_and_two_questions() -> None:
    ones = np.ones((2, 3))
    assert slope(np.array([0.1, 0.1]), ones, ones, 0.95).value is None
    assert slope(np.array([0.0, 0.1]), ones[:, :1], ones[:, :1], 0.95).value is None
    assert slope(np.array([0.0, 0.1]), 0 * ones, 0 * ones, 0.95).value is None
    flat = slope(np.array([0.0, 0.1]), ones, ones, 0.95)
    assert (flat.value, flat.low, flat.high, flat.p) == (0, 0, 0, 1)


def test_lines_end_where_coherence_collapsed_and_a_clamp_leaves_the_untouched_model_out() -> None:
    clamp = [add(c).model_copy(update={"operation": "clamp"}) for c in (0.1, 0.2)]
    ablate = add(1.0).model_copy(update={"operation": "ablate"})
    steerings = [WITHOUT_STEERING, add(0.1), add(0.2), add(0.4), *clamp, ablate]
    whole = answered(steerings)
    found = SteeredCounts(*rows_of(whole), CONFIG, [add(0.4)])
    by = {(effect.operation, effect.measure): effect for effect in found.effects()}
    assert by["add", "rate"].coefficients == (0, 0.1, 0.2)
    assert by["clamp", "alignment"].coefficients == (0.1, 0.2)
    assert by["ablate", "rate"].coefficients == (0, 1)
    point = found.points()[-1]
    assert point.rate_change is not None
    assert point.alignment_change is not None
    assert by["ablate", "rate"].value == point.rate_change.value
    assert by["ablate", "alignment"].p == point.alignment_change.p
    assert [point.collapsed for point in found.points()] == [False, False, False, True, False, False, False]
    endless = {
        (effect.operation, effect.measure): effect for effect in SteeredCounts(*rows_of(whole), CONFIG).effects()
    }
    assert by["add", "rate"].n == 3 / 4 * endless["add", "rate"].n


def test_an_ablation_that_leaves_too_few_answers_coherent_has_no_effect() -> None:
    ablated = add(1.0).model_copy(update={"operation": "ablate"})
    whole, ended = (
        SteeredCounts(*rows_of(answered([WITHOUT_STEERING, ablated])), CONFIG, collapsed)
        for collapsed in ((), (ablated,))
    )
    assert [effect.value is None for effect in whole.effects()] == [False, False]
    assert [effect.value for effect in ended.effects()] == [None, None]
    assert [point.collapsed for point in ended.points()] == [False, True]


def rows_of(found: SteeredCounts) -> tuple[list[SteeringSample], list[Judgment]]:
    """The rows that `answered` makes of the same interventions."""
    rng = np.random.default_rng(0)
    rows, verdicts = list[SteeringSample](), list[Judgment]()
    for steering in found.steerings:
        for question in range(6):
            for index in range(3 - question % 2):
                rows.append(sample(steering, question, index))
                verdicts += judged(rows[-1], float(rng.integers(0, 101)))
    return rows, verdicts
