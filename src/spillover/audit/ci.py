"""A verdict for programs that know none of ours: SARIF 2.1.0 for code hosts, JUnit XML for CI services.

SARIF (OASIS 2020) is shown next to the lines that it is about: one result a finding. Reasons of the later rungs are
about the file as a whole and have no region. `level`: error, warning or note of a finding; a reason that blocks is an
error, one for review a warning, one that passes none.

JUnit has one test case a rung. block: a failure, by each reason.  review: a failure of type "review", since a pipeline
should not continue by itself. A rung that was not asked, or decides nothing, is skipped.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any
from urllib.parse import quote

from spillover.audit.card import format_measured
from spillover.audit.verdict import Audit, FoundAt, Outcome, Reason
from spillover.text import one_line

LONGEST = 500  # characters of a text from outside
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS: dict[Outcome, str] = {"block": "error", "review": "warning", "pass": "none"}


def sanitize(text: str) -> str:
    """Text from outside on one line; what cannot be seen is written out, which also leaves nothing that XML forbids."""
    return one_line(text, LONGEST)


def sentences(message: str, fix: str) -> str:
    """What is wrong and how to fix it, as sentences."""
    return f"{message.rstrip('.')}. {fix}" if fix else message


def to_sarif(audit: Audit) -> str:
    """One run with one artifact, the data set."""
    uri = quote(sanitize(audit.data.name))
    results = [
        *(_finding(finding, uri) for finding in audit.findings),
        *(_reason(reason, uri) for reason in audit.reasons),
    ]
    rules = list(dict.fromkeys(result["ruleId"] for result in results))
    for result in results:
        result["ruleIndex"] = rules.index(result["ruleId"])
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "spillover audit",
                "version": audit.spillover,
                "rules": [{"id": rule, "name": rule} for rule in rules],
            }
        },
        "automationDetails": {"id": f"spillover/{audit.id}"},
        "artifacts": [{"location": {"uri": uri}, "length": audit.data.bytes, "hashes": {"sha-256": audit.data.sha256}}],
        "results": results,
        "properties": {
            "verdict": audit.verdict,
            "exitCode": audit.exit_code,
            "model": sanitize(audit.model),
            "policyHash": audit.policy_hash,
        },
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _finding(finding: FoundAt, uri: str) -> dict[str, Any]:
    lines = finding.lines or (None,)
    field = f"{finding.field}: " if finding.field else ""
    return {
        "ruleId": f"lint/{finding.code}",
        "level": finding.severity,
        "message": {"text": sanitize(f"{field}{sentences(finding.message, finding.fix)}")},
        "locations": [_location(uri, line) for line in lines],
        "occurrenceCount": max(finding.count, 1),
    }


def _reason(reason: Reason, uri: str) -> dict[str, Any]:
    measured = {name: getattr(reason, name) for name in ("value", "low", "high", "threshold")}
    return {
        "ruleId": f"{reason.rung}/{reason.code}" if reason.rung != "lint" else f"policy/{reason.code}",
        "level": LEVELS[reason.outcome],
        "kind": "pass" if reason.outcome == "pass" else "fail",
        "message": {"text": sanitize(reason.message)},
        "locations": [_location(uri, None)],
        "properties": {"outcome": reason.outcome, **measured},
    }


def _location(uri: str, line: int | None) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": uri, "index": 0}}
    if line is not None:
        place["region"] = {"startLine": line}
    return {"physicalLocation": place}


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
            failure.text = "\n".join(_sentence(reason) for reason in against)
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


def _sentence(reason: Reason) -> str:
    measured = format_measured(reason.value, reason.low, reason.high)
    threshold = "" if reason.threshold is None else f", threshold {reason.threshold:.4g}"
    return f"{reason.outcome} {reason.code}: {sanitize(reason.message)} (measured {measured}{threshold})"
