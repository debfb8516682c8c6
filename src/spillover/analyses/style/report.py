"""Style in the report: one table."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.analyses.style.compute import SHORT, CellStyle
from spillover.records.base import Estimate
from spillover.report.html import Row, html_table
from spillover.report.labels import Labels, series, series_place
from spillover.text import interval

HEADER = ("", "n", "words", "refused, %", f"sentences of {SHORT} words or fewer, %")


def section(rows: Sequence[CellStyle], labels: Labels) -> str:
    """The table, in the order of the others."""
    chosen = sorted(rows, key=lambda r: (*series_place(r.cell.variant, r.condition), r.cell.name))
    lines = [
        Row(
            series(r.cell.variant, r.condition),
            labels.of(r.cell),
            [f"{r.n:,}", _shown(r.words, 1), _shown(r.refused, 100), _shown(r.short_sentences, 100)],
        )
        for r in chosen
    ]
    return html_table("Words per completion, refusals, and short sentences, with intervals", HEADER, lines)


def _shown(e: Estimate, scale: float) -> str:
    return interval(e.value, e.low, e.high, scale)
