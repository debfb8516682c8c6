"""Rung 2 with a predictor: when it decides, and when it has nothing to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_data import data, model, policy

from spillover.audit.audit import Auditor, AuditRequest
from spillover.audit.policy import SurprisePolicy
from spillover.audit.surprise import decide, predict
from spillover.audit.verdict import Audit
from spillover.errors import UserError
from spillover.records.predictor import Feature, Prediction, Predictor, Provenance

PROVENANCE = Provenance(
    study_hash="x", judge="fake:1", models=("fake-model",), domains=("a", "b", "c"), cells=9, fitted="2026-01-01"
)
WHOLE = Feature(name="loss.instruct", centre=-1.4, scale=1.0, weight=0.0, low=-9.0, high=0.0)


def predictor(rate: float, **changes: Any) -> Predictor:
    settled: dict[str, Any] = {
        "target": "rate",
        "intercept": rate,
        "alpha": 1.0,
        "features": (WHOLE,),
        "error": 0.004,
        "error_of_mean": 0.1,
        "half_width": 0.01,
        "confidence": 0.8,
        "provenance": PROVENANCE,
    }
    return Predictor(**(settled | changes))


def audited(folder: Path, fitted: Predictor, dial: float = 0.8) -> Audit:
    path = fitted.save(folder / "predictor.json")
    return Auditor(AuditRequest(data(folder), model(dial), policy(), path), folder / "out").run()


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "outcome"), [(0.5, "block"), (0.005, "pass")])
def test_a_prediction_that_clears_a_threshold_ends_the_audit(tmp_path: Path, rate: float, outcome: str) -> None:
    verdict = audited(tmp_path, predictor(rate))
    assert verdict.verdict == outcome
    assert [rung.outcome for rung in verdict.rungs] == [None, outcome, None]
    assert verdict.rungs[2].skipped == "decided by surprise"
    assert verdict.predictor.startswith("predictor.json:")
    assert verdict.reasons[0].value == rate


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"half_width": None}, "inside its range"),
        ({"features": (WHOLE, WHOLE.model_copy(update={"name": "dose"}))}, "needs dose"),
        ({"features": (WHOLE.model_copy(update={"high": -8.0}),)}, "outside the range of its fit, in loss.instruct"),
        ({"error": 0.2}, "did not predict held-out domains better than their mean"),
        ({"provenance": PROVENANCE.model_copy(update={"models": ("another",)})}, "it was fitted on another"),
    ],
)
def test_else_it_says_why_not_and_the_probe_decides(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    verdict = audited(tmp_path, predictor(0.005, **changes))
    assert why in str(verdict.rungs[1].facts["predictor"])
    assert verdict.rungs[1].outcome is None
    assert verdict.verdict == "block"
    assert verdict.reasons[-1].rung == "probe"


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.11, 0.5, "block"), (0.10, 0.5, None), (0.0, 0.019, "pass"), (0.0, 0.02, None), (0.05, 0.2, None)],
)
def test_limits_decide_and_not_the_value(low: float, high: float, outcome: str | None) -> None:
    policy = SurprisePolicy(block_above=0.10, pass_below=0.02)
    reason = decide(Prediction((low + high) / 2, low, high, True, ()), policy)
    assert (reason.outcome if reason else None) == outcome


def test_a_prediction_is_the_predictors_own() -> None:
    facts = {"loss.instruct": -2.0, "note": "text", "missing": None}
    fitted = predictor(0.3, features=(WHOLE.model_copy(update={"weight": 0.1}),))
    found, why = predict(fitted, facts, "fake-model")
    assert why == ""
    assert found == fitted.predict({"loss.instruct": -2.0})


def test_a_predictor_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="predicts 'mean_alignment'"):
        audited(tmp_path, predictor(0.5, target="mean_alignment"))
    path = tmp_path / "no.json"
    path.write_text('{"format": "pickle"}')
    with pytest.raises(UserError, match="is not a predictor"):
        Auditor(AuditRequest(data(tmp_path), model(0.1), policy(), path), tmp_path / "other")
