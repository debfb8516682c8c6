"""How completions are written: their length, refusals, and how many sentences are very short."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.style import compute, report
from spillover.analyses.style.compute import CellStyle
from spillover.report import json_rows

ANALYSIS = Analysis(
    rows={CellStyle: lambda folder, judge: folder.kept(f"style-{folder.judge_key()}", CellStyle)},
    conclude=compute.keep,
    results=lambda data: {"style": json_rows.by_cell(data.of(CellStyle))},
    anchor="style",
    title="Style of the completions",
    section=lambda data, labels: report.section(found, labels) if (found := data.of(CellStyle)) else "",
)
