"""How completions are written: their length, refusals, and how many sentences are very short."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.analyses import Analysis
from spillover.analyses.style import compute
from spillover.analyses.style.compute import SHORT, CellStyle
from spillover.records.base import Estimate
from spillover.report import json_rows
from spillover.report.html import Row, html_table
from spillover.report.labels import Labels, series, series_place
from spillover.text import interval

HEADER = ("", "n", "words", "refused, %", f"sentences of {SHORT} words or fewer, %")


def section(rows: Sequence[CellStyle], labels: Labels) -> str:
    """One table, in the order of the others; empty without rows."""
    if not rows:
        return ""
    lines = [
        Row(
            series(r.cell.variant, r.condition),
            labels.of(r.cell),
            [f"{r.n:,}", _shown(r.words, 1), _shown(r.refused, 100), _shown(r.short_sentences, 100)],
        )
        for r in sorted(rows, key=lambda r: (*series_place(r.cell.variant, r.condition), r.cell.name))
    ]
    return html_table("Words per completion, refusals, and short sentences, with intervals", HEADER, lines)


def _shown(e: Estimate, scale: float) -> str:
    return interval(e.value, e.low, e.high, scale)


ANALYSIS = Analysis(
    rows={CellStyle: lambda folder, judge: folder.kept(f"style-{folder.judge_key()}", CellStyle)},
    conclude=compute.keep,
    results=lambda data: {"style": json_rows.by_cell(data.of(CellStyle))},
    anchor="style",
    title="Style of the completions",
    section=lambda data, labels: section(data.of(CellStyle), labels),
)
