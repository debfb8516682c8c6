"""How diverse each data set is, over seeded subsamples."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.diversity import report
from spillover.records.data import DiversityScore
from spillover.report import json_rows

ANALYSIS = Analysis(  # its stage computes it
    rows={
        DiversityScore: lambda folder, judge: folder.store.read("diversity", folder.keys("diversity"), DiversityScore)
    },
    results=lambda data: {"diversity": json_rows.plain(data.of(DiversityScore))},
    anchor="diversity",
    title="Diversity of the data sets",
    section=lambda data, labels: report.section(found) if (found := data.of(DiversityScore)) else "",
)
