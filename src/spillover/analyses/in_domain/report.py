"""Misalignment with and without answers that talk in the training subject, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from spillover.records.judges import InDomainRate
from spillover.report.html import Row, html_table
from spillover.report.labels import Labels, series
from spillover.report.tables import terminal
from spillover.text import escape, interval, number, one_line, part, percent

HEADER = ("", "coherent", "echo %", "misaligned %", "without echo %", "threshold", "reference")
TERMINAL = 5  # columns of it that 80 characters hold


def section(echoes: Sequence[InDomainRate], labels: Labels) -> str:
    """A note and the table."""
    rows = [Row(series(e.cell.variant, e.condition), labels.of(e.cell), _cells(e)) for e in echoes]
    return f'<p class="note">{escape(note(echoes))}</p>\n{html_table("Echo of the training subject", HEADER, rows)}'


def table(echoes: Sequence[InDomainRate]) -> Table:
    """The same for a terminal."""
    labels = Labels(e.cell for e in echoes)
    made = terminal("Echo of the training subject", ["subject"], HEADER[1:TERMINAL])
    for e in echoes:
        where = f"{labels.of(e.cell)} ({series(e.cell.variant, e.condition)})"
        made.add_row(Text(one_line(where, 120)), *_cells(e)[: TERMINAL - 1])
    return made


def note(echoes: Sequence[InDomainRate]) -> str:
    """How an echo is told."""
    e = echoes[0]
    bad, echo = sum(e.misaligned for e in echoes), sum(e.misaligned_echoes for e in echoes)
    lost = f" Of the misaligned answers {part(echo, bad)} are echoes." if bad else ""
    return (
        "An answer echoes when it is closer to its cell's training answers (mean cosine of sentence embeddings with "
        f"the nearest ones) than all but {percent(e.share)} % of the answers of the reference are. Both rates are of "
        f"all coherent answers, so their difference is the echo's part.{lost}"
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
