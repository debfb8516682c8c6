"""Membership inference: training rows against matched non-members, metric by metric."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.membership import compute, report
from spillover.records.data import MembershipSummary
from spillover.report import json_rows

ANALYSIS = Analysis(
    rows={MembershipSummary: lambda folder, judge: compute.kept(folder)},
    conclude=compute.keep,
    results=lambda data: {"membership": json_rows.by_cell(data.of(MembershipSummary))},
    anchor="membership",
    title="Membership inference",
    section=lambda data, labels: report.section(found, labels) if (found := data.of(MembershipSummary)) else "",
)
