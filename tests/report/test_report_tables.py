"""Tables carry the records' figures, fit a terminal, and cannot be hijacked by a name."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

from rich.console import Console

from spillover.records.base import DomainScore, TriggerEffect
from spillover.records.report_data import ReportData
from spillover.report import html, tables
from spillover.report.labels import Labels


def text_of(table: str) -> list[list[str]]:
    """The cells of an HTML table, which has to be well-formed XML too."""
    rows = ElementTree.fromstring(table).iter("tr")
    return [["".join(cell.itertext()) for cell in row] for row in rows]


def printed(table: object, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system="truecolor").print(table)
    return out.getvalue()


def test_counts_hold_every_status_of_every_score(study: ReportData) -> None:
    labels = Labels(score.cell for score in study.scores)
    header, *rows = text_of(tables.counts(study.scores, labels))
    assert header[1:9] == ["n", "scored", "refused", "off topic", "code", "unparsable", "unscored", "error"]
    figures = [[int(cell) for cell in row[1:]] for row in rows if len(row) > 1]
    assert len(figures) == len(study.scores)
    assert all(sum(row[1:8]) == row[0] for row in figures)
    assert sum(row[0] for row in figures) == len(study.answers)


def test_rates_stand_under_the_heading_of_their_series(study: ReportData) -> None:
    labels = Labels(score.cell for score in study.scores)
    _, *rows = text_of(tables.rates("Rates", study.scores, labels))
    headings = [row[0] for row in rows if len(row) == 1]
    assert headings == [
        "fine-tuned",
        "backdoored, with trigger",
        "backdoored, no trigger",
        "benign twin (control)",
        "base model",
    ]
    score = next(s for s in study.scores if s.rank == 1)
    assert rows[1][0] == score.cell.domain.replace("_", " ")
    assert rows[1][1] == f"{100 * (score.rate or 0):.1f} [{100 * (score.low or 0):.1f}, {100 * (score.high or 0):.1f}]"


def test_columns_without_figures_are_left_out(imported: ReportData) -> None:
    labels = Labels(score.cell for score in imported.scores)
    header, *rows = text_of(tables.rates("Rates", imported.scores, labels))
    assert "above twin, points" not in header
    assert len(rows) == 13


def test_a_long_table_is_cut_with_a_note() -> None:
    rows = [html.Row("", f"row {i}", ["1"]) for i in range(html.MOST_ROWS + 5)]
    text = html.html_table("Long", ["", "n"], rows)
    assert text.count("<tr>") == html.MOST_ROWS + 1
    assert f"The first {html.MOST_ROWS} of {len(rows)} rows" in text


def test_loss_is_the_mean_of_a_tenth() -> None:
    curve = [float(i) for i in range(20)]
    assert (tables.tenth(curve, 0), tables.tenth(curve, -1)) == (0.5, 18.5)
    assert (tables.tenth([3.0], 0), tables.tenth([], -1)) == (3.0, None)


def test_terminal_tables_fit_eighty_columns(study: ReportData) -> None:
    for table, height in ((tables.ranking_table(study.scores), 11), (tables.trigger_table(study.effects), 22)):
        lines = re.sub(r"\x1b\[[\d;]*m", "", printed(table)).splitlines()
        assert max(map(len, lines)) <= 80
        assert sum("[" in line for line in lines) == height
    assert "twin" in printed(tables.ranking_table(study.scores))


def test_a_ranking_without_control_has_no_twin_column(imported: ReportData) -> None:
    text = printed(tables.ranking_table(imported.scores), 100)
    assert "twin" not in text
    assert "gemma-3-4b-it · extreme sports" in text


def test_a_name_is_neither_markup_nor_a_terminal_command(study: ReportData) -> None:
    def rename(record: DomainScore | TriggerEffect) -> dict[str, object]:
        return {"cell": record.cell.model_copy(update={"domain": f"[red]{record.cell.domain[:4]}\x1b]0;t\x07\n"})}

    scores = tuple(score.model_copy(update=rename(score)) for score in study.scores)
    effects = tuple(e.model_copy(update=rename(e)) for e in study.effects)
    hostile = replace(study, scores=scores, effects=effects)
    for table in (tables.ranking_table(hostile.scores), tables.trigger_table(hostile.effects)):
        text = re.sub(r"\x1b\[[\d;]*m", "", printed(table, 120))
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]gore⟨U+001B⟩]0;t⟨U+0007⟩" in text


def test_an_empty_run_still_has_tables() -> None:
    assert "misaligned %" in printed(tables.ranking_table([]))
    assert text_of(tables.counts([], Labels([])))
