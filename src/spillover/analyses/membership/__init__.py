"""Membership inference: training rows against matched non-members, metric by metric."""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from spillover.analyses import Analysis
from spillover.analyses.membership import report
from spillover.config.study import MembershipConfig
from spillover.membership.summaries import pooled
from spillover.records.data import MembershipSummary
from spillover.report import json_rows
from spillover.tables.run_folder import RunFolder


@threadpool_limits.wrap(limits=1)  # hundreds of small matrices: threads would only wait for one another
def keep(folder: RunFolder) -> None:
    """Pool the scores of the cells that are there over all domains, and keep the summaries."""
    frames = [
        (unit.cell, frame)
        for unit in folder.plan.get("membership", [])
        if folder.store.is_done("membership", unit.key)
        and (frame := folder.store.read_frame("membership", f"scores-{unit.key}")) is not None
    ]
    asked = (folder.config.membership if folder.config else None) or MembershipConfig()
    found = pooled(frames, folder.manifest.seed, asked.permutations)
    folder.keep(f"pooled-{folder.data_key}", MembershipSummary, found)


def kept(folder: RunFolder) -> tuple[MembershipSummary, ...]:
    """By cell, then over all domains together."""
    cells = folder.store.read("membership", folder.keys("membership"), MembershipSummary)
    return (*cells, *folder.kept(f"pooled-{folder.data_key}", MembershipSummary))


ANALYSIS = Analysis(
    rows={MembershipSummary: lambda folder, judge: kept(folder)},
    conclude=keep,
    results=lambda data: {"membership": json_rows.by_cell(data.of(MembershipSummary))},
    anchor="membership",
    title="Membership inference",
    section=lambda data, labels: report.section(found, labels) if (found := data.of(MembershipSummary)) else "",
)
