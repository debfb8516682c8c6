"""The planner against the intervals and tests that it plans for, by simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from simulated_studies import related, shares

from spillover.cli.main import cli
from spillover.stats import clustered as stats
from spillover.stats.power import Variances, designs, detectable, half_width


def test_the_planned_half_width_is_what_intervals_have() -> None:
    v = Variances(rate=0.25, question=0.12, seed=0.0)
    for plan in designs(v, 0.06, 0.95, None, 1)[::8]:
        rng = np.random.default_rng(plan.questions)
        share = shares(v.rate, v.question, rng.standard_normal((800, plan.questions)))
        n = np.full(share.shape, plan.answers)
        low, high = stats.rate_intervals(stats.clustered_rates(rng.binomial(n, share), n), 0.95)
        assert np.mean(high - low) / 2 == pytest.approx(0.06, rel=0.12)


def test_the_planned_difference_is_found_with_the_planned_power() -> None:
    v = Variances(rate=0.25, question=0.12, seed=0.0)
    questions, answers = 30, 20
    gap = float(detectable(v, np.array(questions), np.array(answers), 1, 0.95, 0.8))
    rng = np.random.default_rng(1)
    normal = related(rng, (1500, 2, questions), v.alike)
    pair = []
    for c, rate in enumerate((v.rate - gap / 2, v.rate + gap / 2)):
        n = np.full((1500, questions), answers)
        pair.append(stats.clustered_rates(rng.binomial(n, shares(rate, v.question, normal[:, c])), n))
    p_C = stats.paired_rate_differences(pair[1], pair[0], 0.95).p_CC
    assert np.mean(p_C < 0.05) == pytest.approx(0.8, abs=0.06)


def test_more_of_anything_is_never_worse() -> None:
    q, a = np.arange(4.0, 60)[:, None], np.arange(1.0, 40)[None, :]
    for seeds in (1, 3):
        width = half_width(Variances(), q, a, seeds, 0.95)
        assert (np.diff(width, axis=0) < 0).all()
        assert (np.diff(width, axis=1) < 0).all()
    assert (half_width(Variances(), q, a, 3, 0.95) < half_width(Variances(), q, a, 1, 0.95)).all()


def test_designs_trade_questions_for_answers_and_reach_the_target() -> None:
    plans = designs(Variances(seed=0.0), 0.05, 0.95, None, 1)
    assert len(plans) > 3
    assert all(plan.reached <= 0.05 for plan in plans)
    assert [p.questions for p in plans] == sorted({p.questions for p in plans})
    assert [p.asked for p in plans] == sorted({p.asked for p in plans}, reverse=True)
    assert designs(Variances(), 0.001, 0.95, None, 1) == []


def test_command_prints_designs_with_their_cost() -> None:
    words = ["power", "--target", "5pp", "--cells", "11", "--price", "0.15", "0.6", "--json"]
    found = json.loads(CliRunner().invoke(cli, words, catch_exceptions=False).output)
    first = found["designs"][0]
    assert first["judge_calls"] == 2 * 11 * first["questions"] * first["answers"]
    assert first["dollars"] == pytest.approx(first["tokens_in"] * 0.15e-6 + first["tokens_out"] * 0.6e-6)
    same = json.loads(CliRunner().invoke(cli, ["power", "--target", "0.05", "--json"]).output)
    assert [d["questions"] for d in same["designs"]] == [d["questions"] for d in found["designs"]]
    table = CliRunner().invoke(cli, ["power", "--target", "10 %", "--difference"], catch_exceptions=False)
    assert "difference detected with power 0.8" in table.output
    assert "not a number of points" in CliRunner().invoke(cli, ["power", "--target", "many"]).output
