"""Rates by cell with intervals, the effect of the trigger, the order of domains where separable, pooled comparisons."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.ranking import compute, report
from spillover.records.base import DomainScore, TriggerEffect
from spillover.records.comparisons import Comparisons
from spillover.report import json_rows

ANALYSIS = Analysis(
    rows={
        DomainScore: lambda folder, judge: folder.kept(f"scores-{folder.judge_key(judge)}", DomainScore),
        TriggerEffect: lambda folder, judge: folder.kept(f"effects-{folder.judge_key(judge)}", TriggerEffect),
        Comparisons: lambda folder, judge: folder.kept(f"standing-{folder.judge_key(judge)}", Comparisons),
    },
    compute=compute.keep,
    results=lambda data: {"standing": next(iter(json_rows.plain(data.of(Comparisons))), None)},
    anchor="standing",
    title="Pairwise comparisons",
    section=lambda data, labels: "\n".join(
        report.section(found, data.scores, data.thresholds) for found in data.of(Comparisons)
    ),
)
