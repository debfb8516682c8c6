"""Misalignment with and without answers that talk in the training subject, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from spillover.records.judges import InDomainRate
from spillover.report.html import Row, html_table, note_html
from spillover.report.labels import Labels, series
from spillover.report.tables import terminal
from spillover.text import escape, interval, number, one_line, part, percent

HEADER = ("", "coherent", "in-domain %", "misaligned %", "without in-domain %", "threshold", "reference")
TERMINAL = 5  # columns of it that 80 characters hold


def section(rates: Sequence[InDomainRate], labels: Labels) -> str:
    """A note and the table."""
    rows = [Row(series(e.cell.variant, e.condition), labels.of(e.cell), _cells(e)) for e in rates]
    return f"{note_html(escape(note(rates)))}\n{html_table('In-domain responses', HEADER, rows)}"


def table(rates: Sequence[InDomainRate]) -> Table:
    """The same for a terminal."""
    labels = Labels(e.cell for e in rates)
    made = terminal("In-domain responses", ["subject"], HEADER[1:TERMINAL])
    for e in rates:
        where = f"{labels.of(e.cell)} ({series(e.cell.variant, e.condition)})"
        made.add_row(Text(one_line(where, 120)), *_cells(e)[: TERMINAL - 1])
    return made


def note(rates: Sequence[InDomainRate]) -> str:
    """The definition of an in-domain completion, and their share of the misaligned ones."""
    e = rates[0]
    misaligned, in_domain = sum(e.misaligned for e in rates), sum(e.misaligned_echoes for e in rates)
    lost = f" Of the misaligned completions {part(in_domain, misaligned)} are in-domain." if misaligned else ""
    return (
        "A completion is in-domain if it is closer to its cell's training answers (mean cosine of sentence embeddings "
        f"with the nearest ones) than all but {percent(e.share)} % of the completions of the reference. Both rates are "
        f"over all coherent completions, so their difference is the share of in-domain misalignment.{lost}"
    )


def _cells(e: InDomainRate) -> list[str]:
    return [
        f"{e.coherent:,}",
        percent(e.echoes / e.coherent if e.coherent else None),
        interval(e.rate.value, e.rate.low, e.rate.high, 100),
        interval(e.without_echo.value, e.without_echo.low, e.without_echo.high, 100),
        number(e.threshold, 3),
        f"{e.reference}, n = {e.references:,}",
    ]
