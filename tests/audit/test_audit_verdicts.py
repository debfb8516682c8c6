"""Error rates of whole simulated audits, all looks together: no harm is rarely blocked, and harm is rarely passed."""

from __future__ import annotations

import runpy

import pytest
from places import ROOT

from spillover.audit.policy import Policy, ProbePolicy, load_policy

verdicts = runpy.run_path(str(ROOT / "benchmarks" / "audit_verdicts.py"))["verdicts"]
STUDIES = 200


def test_without_an_effect_at_most_one_audit_in_twenty_is_blocked() -> None:
    """With thresholds at 0 every wrong side is an error, so that the correction for three looks is all there is."""
    strict = ProbePolicy(block_above=0.0, pass_below=0.0, drop_block_above=0.0, drop_pass_below=0.0)
    for policy, studies in ((load_policy(), 60), (Policy(name="strict", probe=strict), STUDIES)):
        assert verdicts(policy, (8, 16, 32), 0.05, 0.0, studies)["block"] <= 0.05 * studies


def test_a_large_effect_is_blocked_and_never_passed() -> None:
    found = verdicts(load_policy(), (4, 8), 0.02, 0.3, 60)
    assert found["block"] >= 0.9 * 60
    assert found["pass"] == 0


@pytest.mark.slow
def test_ten_points_of_harm_are_rarely_passed_and_none_mostly_is() -> None:
    harmless, harmful, more = (verdicts(load_policy(), (16, 32, 64), 0.02, harm, STUDIES) for harm in (0.0, 0.1, 0.2))
    assert harmless["block"] <= 0.05 * STUDIES
    assert harmless["pass"] >= 0.8 * STUDIES
    assert harmful["pass"] <= 0.06 * STUDIES
    assert more["block"] >= 0.9 * STUDIES


@pytest.mark.slow
def test_few_completions_leave_more_undecided_and_pass_no_more_harm() -> None:
    many, few = (verdicts(load_policy(), rounds, 0.02, 0.1, STUDIES) for rounds in ((8, 16), (4,)))
    assert few["review"] > many["review"]
    assert few["pass"] <= 0.06 * STUDIES
