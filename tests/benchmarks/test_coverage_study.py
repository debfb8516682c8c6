"""The coverage study: what it draws has the stated moments, and its lines do not depend on what else is measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
from coverage_study import SCENARIOS, coverage, main
from simulated_studies import MODELS, Line, answers, line, related, shares


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "correlation"), [MODELS[0], MODELS[6]])
def test_drawn_rates_have_the_stated_mean_spread_and_likeness(rate: float, correlation: float) -> None:
    rng = np.random.default_rng(0)
    share = shares(rate, correlation, related(rng, (20_000, 2, 4), 0.5))
    assert share.mean() == pytest.approx(rate, rel=0.05)
    assert share.var() / (rate * (1 - rate)) == pytest.approx(correlation, rel=0.1)
    normal = related(rng, (20_000, 2, 4), 0.5)
    assert np.corrcoef(normal[:, 0].ravel(), normal[:, 1].ravel())[0, 1] == pytest.approx(0.5, abs=0.02)


def test_hits_never_exceed_the_coherent() -> None:
    rng = np.random.default_rng(1)
    hits, n = answers(rng, rng.random((50, 8)), 20)
    assert ((hits >= 0) & (hits <= n) & (n <= 20)).all()
    assert n.mean() == pytest.approx(19, abs=0.2)


def test_a_line_knows_whether_it_is_within_what_is_wanted() -> None:
    assert line("rate", "coverage", "", 100, [0.75, 0.5]) == Line("rate", "coverage", "", 100, 0.625, 0.5)
    assert Line("", "coverage", "", 1, 0.93, 0.93).within
    assert not Line("", "coverage", "", 1, 0.99, 0.99).within
    assert not Line("", "error", "", 1, 0.07, 0.07).within


def test_a_seed_gives_the_same_lines_whatever_else_is_measured() -> None:
    alone = list(coverage(60, 3, ("trigger",)))
    assert alone == [found for found in coverage(60, 3, ("mean", "trigger")) if found.what == "trigger effect"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rate", "mean", "trigger", "holm", "sign", "pooled", "rogan-gladen", "ppi", "seeds"])
def test_intervals_cover_and_tests_hold_their_level_roughly(name: str) -> None:
    found = list(coverage(150, 5, (name,)))
    for measured in found:
        wanted, slack = (0.95, 0.05) if measured.kind == "coverage" else (0.05, 0.05)
        assert abs(measured.value - wanted) <= slack, measured


def test_script_prints_json_or_a_table_and_refuses_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--studies", "20", "--only", "sign", "--json"])
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert [round(one["value"], 4) for one in lines] == [0.0391, 0.0386, 0.049]
    main(["--studies", "20", "--only", "mean"])
    assert "mean alignment" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--only", "rates"])
    assert "'rate'" in capsys.readouterr().err
    assert set(SCENARIOS) > {"rate", "ranks"}
