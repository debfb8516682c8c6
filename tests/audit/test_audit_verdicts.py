"""What the shipped policy says of simulated probes with known rates: harm is rarely passed, none rarely blocked."""

from __future__ import annotations

import runpy

import pytest
from places import ROOT

from spillover.audit.policy import load_policy

SCRIPT = ROOT / "benchmarks" / "audit_verdicts.py"
STUDIES = 200


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_ten_points_of_harm_are_rarely_passed_and_none_is_rarely_blocked(shuffled: bool) -> None:
    verdicts, policy = runpy.run_path(str(SCRIPT))["verdicts"], load_policy()
    harmless, harmful, more = (verdicts(policy, 16, 0.02, harm, shuffled, STUDIES) for harm in (0.0, 0.1, 0.2))
    assert harmless["block"] <= 0.05 * STUDIES
    assert harmless["pass"] >= 0.8 * STUDIES
    assert harmful["pass"] <= 0.06 * STUDIES
    assert more["block"] >= 0.9 * STUDIES


@pytest.mark.slow
def test_few_answers_send_more_to_a_person_and_pass_no_more_harm() -> None:
    verdicts, policy = runpy.run_path(str(SCRIPT))["verdicts"], load_policy()
    many, few = (verdicts(policy, answers, 0.02, 0.1, False, STUDIES) for answers in (16, 4))
    assert few["review"] > many["review"]
    assert few["pass"] <= 0.06 * STUDIES
