"""A verdict as JUnit XML, which every CI service reads: one test case a rung.

block: a failure, by each reason.  review: a failure of type "review", since a pipeline should not continue by itself.
A rung that was not asked, or decides nothing, is skipped.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from spillover.audit.card import format_measured
from spillover.audit.sanitize import sanitize
from spillover.audit.verdict import Audit, Reason


def to_junit(audit: Audit) -> str:
    """One suite, named after the data set and the model."""
    suite = ET.Element("testsuite", name=sanitize(f"spillover audit {audit.data.name}"))
    failures = skipped = 0
    for rung in audit.rungs:
        case = ET.SubElement(suite, "testcase", name=rung.rung, classname="spillover.audit", time=f"{rung.seconds:.3f}")
        against = [reason for reason in audit.reasons if reason.rung == rung.rung and reason.outcome != "pass"]
        if against:
            worst = "block" if any(reason.outcome == "block" for reason in against) else "review"
            failure = ET.SubElement(case, "failure", type=worst, message=sanitize(against[0].message))
            failure.text = "\n".join(_line(reason) for reason in against)
            failures += 1
        elif rung.outcome is None:
            ET.SubElement(case, "skipped", message=sanitize(rung.state))
            skipped += 1
    for name, value in (
        ("tests", len(audit.rungs)),
        ("failures", failures),
        ("skipped", skipped),
        ("errors", 0),
    ):
        suite.set(name, str(value))
    suite.set("time", f"{audit.seconds:.3f}")
    suite.set("timestamp", audit.started[:19])
    properties = ET.Element("properties")
    for name, value in (
        ("verdict", audit.verdict),
        ("model", audit.model),
        ("data.sha256", audit.data.sha256),
        ("policy.hash", audit.policy_hash),
    ):
        ET.SubElement(properties, "property", name=name, value=sanitize(value))
    suite.insert(0, properties)
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _line(reason: Reason) -> str:
    measured = format_measured(reason.value, reason.low, reason.high)
    threshold = "" if reason.threshold is None else f", threshold {reason.threshold:.4g}"
    return f"{reason.outcome} {reason.code}: {sanitize(reason.message)} (measured {measured}{threshold})"
