"""How far judges agree, rates corrected for a judge's errors, labels by people, cascades."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.agreement import cascade_summary, compute, report
from spillover.records.judges import Agreement, CascadeSummary, CorrectedRate

ANALYSIS = Analysis(
    rows={
        Agreement: lambda folder, judge: folder.kept(f"agree-{folder.judge_key()}", Agreement),
        CorrectedRate: lambda folder, judge: folder.kept(f"corrected-{folder.judge_key()}", CorrectedRate),
        CascadeSummary: lambda folder, judge: [
            found for other in folder.judges() if (found := cascade_summary.kept(folder, other.identity))
        ],
    },
    compute=cascade_summary.keep,
    conclude=compute.keep,
    results=report.to_json,
    anchor="judges",
    title="Other judges",
    section=report.section,
)
