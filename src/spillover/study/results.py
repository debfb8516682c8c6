"""results.json: the figures of a run for programs, in a flat and stable form. Schema: docs/reference/results.md.

Shares are from 0 to 1, scores from 0 to 100; what could not be measured is null, never NaN.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spillover import analyses
from spillover.records.report_data import ReportData
from spillover.report import json_rows
from spillover.store.files import replace_file

SCHEMA = 1


def results(data: ReportData) -> dict[str, Any]:
    """The run as plain JSON values; equal data gives equal results, whatever the order of its records."""
    document: dict[str, Any] = {"schema": SCHEMA, "ranking": json_rows.ranking(data.scores)}
    for analysis in analyses.table().values():
        document |= analysis.results(data)
    return document | {"manifest": data.manifest.model_dump(mode="json")}


def write_results(data: ReportData, path: Path) -> Path:
    """Write results.json whole or not at all."""
    replace_file(path, json.dumps(results(data), indent=2, allow_nan=False) + "\n")
    return path
