"""The matrix of training domain by asked domain."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.transfer import compute, report
from spillover.analyses.transfer.grid import grids, headline
from spillover.records.transfer import TransferCell
from spillover.report import json_rows

ANALYSIS = Analysis(
    requires=("ask", "grade"),
    rows={TransferCell: compute.kept},
    compute=compute.keep,
    results=lambda data: {"transfer": json_rows.by_cell(data.of(TransferCell))},
    anchor="transfer",
    title="Cross-domain transfer",
    section=lambda data, labels: (
        report.section(rows, data.confidence, data.judge_name) if (rows := data.of(TransferCell)) else ""
    ),
    sentences=lambda data, labels: [
        sentence for grid in grids(data.of(TransferCell))[:1] if (sentence := headline(grid, data.confidence))
    ],
)
