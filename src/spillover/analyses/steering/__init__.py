"""Directions added to or ablated from models, compared with norm-matched random ones."""

from __future__ import annotations

from spillover.analyses import Analysis
from spillover.analyses.steering import kept, matrix_report, report
from spillover.records.report_data import ReportData
from spillover.records.steering import SteeringEffect, SteeringMatrixCell, SteeringPoint
from spillover.report.labels import Labels


def section(data: ReportData, labels: Labels) -> str:
    """The general questions, then the matrix of directions by domain asked about."""
    parts: list[str] = []
    if effects := data.of(SteeringEffect):
        parts.append(report.section(data.of(SteeringPoint), effects, data.confidence))
    if matrix := data.of(SteeringMatrixCell):
        parts.append(matrix_report.section(matrix, data.confidence))
    return "\n".join(parts)


ANALYSIS = Analysis(  # computed by `study.steering`, which plans each coefficient from what was judged before
    rows={
        SteeringPoint: lambda folder, judge: kept.points(folder.store) if judge is None else (),
        SteeringEffect: lambda folder, judge: (
            kept.effects(folder.store, folder.rank_config.confidence) if judge is None else ()
        ),
        SteeringMatrixCell: lambda folder, judge: kept.matrix_cells(folder.store) if judge is None else (),
    },
    results=lambda data: {
        "steering": report.to_json(data.of(SteeringPoint), data.of(SteeringEffect), data.of(SteeringMatrixCell))
    },
    anchor="steering",
    title="Steering",
    section=section,
)
