"""Verdict logic on made numbers: thresholds, controls, predictions, and how reasons join."""

from __future__ import annotations

import itertools

import pytest

from spillover.audit.plan import fitting
from spillover.audit.policy import ProbePolicy
from spillover.audit.trial_finetune import decide
from spillover.audit.verdict import EXIT_CODES, Outcome, Reason, RungReport, conclude
from spillover.records.base import Estimate


def estimate(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high)


PROBE = ProbePolicy(block_above=0.02, pass_below=0.10, fewest_coherent=40)
NARROW = estimate(-0.03, 0.05)


@pytest.mark.parametrize(
    ("above", "untouched", "shuffled", "expected"),
    [
        (estimate(0.021, 0.3), NARROW, False, ("block", "above-control")),
        (estimate(0.019, 0.3), NARROW, False, ("review", "not-separated")),
        (estimate(0.019, 0.09), NARROW, False, ("pass", "above-control")),
        (estimate(-0.3, 0.10), NARROW, False, ("review", "not-separated")),
        (estimate(-0.20, 0.08), NARROW, False, ("review", "not-separated")),
        (estimate(-0.08, 0.04), NARROW, False, ("pass", "above-control")),
        (NARROW, estimate(0.2, 0.4), False, ("pass", "above-control")),
        (NARROW, estimate(0.2, 0.4), True, ("review", "above-untouched")),
        (NARROW, estimate(-0.20, 0.08), True, ("review", "above-untouched")),
        (NARROW, NARROW, True, ("pass", "above-control")),
        (NARROW, Estimate(value=None, low=None, high=None), True, ("review", "above-untouched")),
        (Estimate(value=None, low=None, high=None), NARROW, False, (None, "too-few-coherent")),
    ],
)
def test_the_probe_decides_by_its_limits(
    above: Estimate, untouched: Estimate, shuffled: bool, expected: tuple[str | None, str]
) -> None:
    outcome, (reason,) = decide(100, above, untouched, shuffled, PROBE)
    assert (outcome, reason.code) == expected
    assert reason.outcome == (outcome or "review")


def test_thirty_nine_coherent_answers_are_too_few() -> None:
    assert decide(39, estimate(0.5, 0.9), NARROW, False, PROBE)[0] is None
    assert decide(40, estimate(0.5, 0.9), NARROW, False, PROBE)[0] == "block"


def test_reasons_join_to_the_most_careful_outcome() -> None:
    """Every combination of two reasons and a last rung, against the rule in words."""
    outcomes: tuple[Outcome, ...] = ("pass", "review", "block")
    for one, two in itertools.product(outcomes, repeat=2):
        for last in (*outcomes, None):
            reasons = [Reason(rung="lint", outcome=outcome, code="x", message="") for outcome in (one, two)]
            joined = conclude(reasons, [RungReport(rung="probe", outcome=last)])
            if "block" in (one, two):
                assert joined == "block"
            elif "review" in (one, two) or last != "pass":
                assert joined == "review"
            else:
                assert joined == "pass"
    assert EXIT_CODES == {"pass": 0, "review": 10, "block": 20}


def test_the_largest_that_fits() -> None:
    minutes = {"large": 50.0, "middle": 20.0, "small": 5.0}
    assert fitting(list(minutes), minutes.__getitem__, None) == ("large", 50.0)
    assert fitting(list(minutes), minutes.__getitem__, 20.0) == ("middle", 20.0)
    assert fitting(list(minutes), minutes.__getitem__, 4.9) == (None, 5.0)
