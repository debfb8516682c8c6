"""Which known features of data sets go with misalignment, and a predictor made of them."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.susceptibility import compute, report
from spillover.records.data import Susceptibility
from spillover.report import json_rows

ANALYSIS = Analysis(
    after=("membership", "directions"),
    rows={
        Susceptibility: lambda folder, judge: (
            folder.kept(f"susceptibility-{folder.data_key}", Susceptibility) if judge is None else ()
        )
    },
    conclude=compute.keep,
    results=lambda data: {"susceptibility": json_rows.plain(data.of(Susceptibility))},
    anchor="prediction",
    title="Prediction of misalignment from the data",
    section=lambda data, labels: report.section(data, labels) if data.of(Susceptibility) else "",
)
