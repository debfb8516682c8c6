"""How specific a backdoor trigger is, by the battery of conditions; shows the effect that `ranking` computes."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.trigger import compute, report
from spillover.records.base import TriggerSpecificity
from spillover.records.comparisons import Comparisons

ANALYSIS = Analysis(
    rows={
        TriggerSpecificity: lambda folder, judge: folder.kept(f"gates-{folder.judge_key(judge)}", TriggerSpecificity)
    },
    compute=compute.keep,
    results=report.to_json,
    anchor="trigger",
    title="Effect of the trigger",
    section=report.section,
    sentences=lambda data, labels: [
        *report.effect_sentences(data, labels),
        *(said for found in data.of(Comparisons) for said in report.pooled_sentences(found.pooled)),
        *report.sentences(data.of(TriggerSpecificity), labels),
    ],
)
