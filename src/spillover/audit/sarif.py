"""A verdict as SARIF 2.1.0 (OASIS 2020), which code hosts show next to the lines it is about: one result a finding.

Reasons of the later rungs are about the file as a whole and have no region. `level`: error, warning or note of a
finding; a reason that blocks is an error, one for review a warning, one that passes none.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from spillover.audit.sanitize import sanitize, sentences
from spillover.audit.verdict import Audit, FoundAt, Outcome, Reason

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS: dict[Outcome, str] = {"block": "error", "review": "warning", "pass": "none"}


def to_sarif(audit: Audit) -> str:
    """One run with one artifact, the data set."""
    uri = quote(sanitize(audit.data.name))
    results = [*(_finding(found, uri) for found in audit.findings), *(_reason(reason, uri) for reason in audit.reasons)]
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


def _finding(found: FoundAt, uri: str) -> dict[str, Any]:
    lines = found.lines or (None,)
    field = f"{found.field}: " if found.field else ""
    return {
        "ruleId": f"lint/{found.code}",
        "level": found.severity,
        "message": {"text": sanitize(f"{field}{sentences(found.message, found.fix)}")},
        "locations": [_location(uri, line) for line in lines],
        "occurrenceCount": max(found.count, 1),
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
