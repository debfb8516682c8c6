"""results.json: the figures of a run for programs, in a flat and stable form. Schema: docs/reference/results.md.

Shares are from 0 to 1, scores from 0 to 100; what could not be measured is null, never NaN.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from spillover.analyses.ranking import report as standing
from spillover.analyses.steering import report as steering
from spillover.analyses.trigger import report as gate
from spillover.records.base import STATUSES, DomainScore, Record, TriggerEffect, TriggerSpecificity
from spillover.records.data import MembershipSummary
from spillover.records.directions import DirectionSummary
from spillover.records.judges import InDomainRate
from spillover.records.report_data import ReportData
from spillover.records.transfer import TransferCell
from spillover.report.labels import ordered
from spillover.store.store import disk_errors

SCHEMA = 1
_CELL = ("model", "domain", "variant", "dose", "seed")
_SCORE = (
    "incoherent",
    "coherent",
    "misaligned",
    "questions",
    "rate",
    "low",
    "high",
    "design_effect",
    "rate_lower_bound",
    "rate_upper_bound",
    "mean_alignment",
    "mean_alignment_low",
    "mean_alignment_high",
    "mean_coherence",
    "rate_alignment_below_50",
    "above_control",
    "rank",
    "rank_low",
    "rank_high",
    "tie_group",
)
_EFFECT = ("measure", "questions", "clean", "triggered", "difference", "low", "high", "p", "p_holm", "judge")


def results(data: ReportData) -> dict[str, Any]:
    """The run as plain JSON values; equal data gives equal results, whatever the order of its records."""
    effects = sorted(data.effects, key=lambda e: (e.measure, e.cell.variant, e.cell.name, e.judge))
    return {
        "schema": SCHEMA,
        "ranking": [_ranking_row(score) for score in ordered(data.scores)],
        "trigger_effect": [_effect_row(effect) for effect in effects],
        "gate": [_cell(g) | gate.to_json(g) for g in sorted(data.gates, key=lambda g: (g.cell.name, g.judge))],
        "standing": standing.to_json(data.standing) if data.standing else None,
        "judges": [
            {"identity": other.judge.identity, "source": other.judge.source, "limit": other.judge.limit}
            | {"ranking": [_ranking_row(score) for score in ordered(other.scores)]}
            for other in data.others
        ],
        "agreement": [_record(row) for row in data.agreements],
        "corrected": [_record(row) for row in data.corrected],
        "mix": [_record(row) for row in data.mixes],
        "echo": [_cell(row) | _record(row, "cell") for row in data.echoes],
        "susceptibility": [_record(row) for row in data.susceptibility],
        "membership": [_cell(row) | _record(row, "cell") for row in data.memberships],
        "diversity": [_record(row) for row in data.diversity],
        "directions": {
            "summaries": [_cell(row) | _record(row, "cell") for row in data.directions.summaries],
            "aucs": [_record(row) for row in data.directions.aucs],
            "profiles": [_record(row) for row in data.directions.profiles],
            "cosines": [_record(row) for row in data.directions.cosines],
            "groups": [_record(row) for row in data.directions.groups],
        },
        "transfer": [_cell(row) | _record(row, "cell") for row in data.transfer],
        "steering": steering.to_json(data.steering_points, data.steering_effects, data.steering_squares),
        "manifest": data.manifest.model_dump(mode="json"),
    }


def write_results(data: ReportData, path: Path) -> Path:
    """Write results.json whole or not at all."""
    text = json.dumps(results(data), indent=2, allow_nan=False) + "\n"
    return write_whole(text, path)


def write_whole(text: str, path: Path) -> Path:
    """Put a file in place in one step, so that a reader never sees half of it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, path)
    return path


def _cell(
    record: DomainScore
    | TriggerEffect
    | TriggerSpecificity
    | InDomainRate
    | MembershipSummary
    | DirectionSummary
    | TransferCell,
) -> dict[str, Any]:
    return {"cell": record.cell.name} | {field: getattr(record.cell, field) for field in _CELL}


def _record(row: Record, *without: str) -> dict[str, Any]:
    return row.model_dump(mode="json", exclude={"schema_version", "id", *without})


def _ranking_row(score: DomainScore) -> dict[str, Any]:
    content = score.model_dump(mode="json")
    counts = {status: content["counts"][status] for status in STATUSES}
    row = _cell(score) | {"condition": score.condition, "n": score.n} | counts
    return row | {field: content[field] for field in _SCORE} | {"judge": score.judge}


def _effect_row(effect: TriggerEffect) -> dict[str, Any]:
    return _cell(effect) | {field: getattr(effect, field) for field in _EFFECT}
