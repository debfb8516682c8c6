"""Activation directions: each cell's, what they separate, and how similar they are."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.directions import compute, report

ANALYSIS = Analysis(
    requires=("direct",),
    rows=compute.READERS,
    conclude=compute.keep,
    results=report.to_json,
    anchor="directions",
    title="Activation directions",
    section=lambda data, labels: (
        report.section(found, labels, data.confidence) if (found := report.of(data)).summaries else ""
    ),
)
