"""Misaligned answers about the training subject apart from those about anything else."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.in_domain import report
from spillover.records.judges import InDomainRate
from spillover.report import json_rows

ANALYSIS = Analysis(  # computed by `spillover echo`, which needs the sentence encoder
    rows={
        InDomainRate: lambda folder, judge: (
            folder.kept(f"echo-{folder.judge_key()}", InDomainRate) if judge is None else ()
        )
    },
    results=lambda data: {"echo": json_rows.by_cell(data.of(InDomainRate))},
    anchor="echo",
    title="In-domain responses",
    section=lambda data, labels: report.section(found, labels) if (found := data.of(InDomainRate)) else "",
)
