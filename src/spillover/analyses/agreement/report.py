"""Several judges of one run: their rates side by side, how far they agree, and what that corrects.

The same rows for the page (HTML) and for the terminal (rich). Shares in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from spillover.records.base import DomainScore, Estimate
from spillover.records.judges import Agreement, CascadeSummary, CorrectedRate, Decision, RunJudge
from spillover.records.report_data import ReportData
from spillover.records.steering import SteeringMatrixCell, SteeringPoint
from spillover.records.transfer import TransferCell
from spillover.report import json_rows
from spillover.report.html import Row, html_table, note_html
from spillover.report.labels import Labels, ranked, subject
from spillover.report.tables import terminal
from spillover.text import escape, interval, listing, number, one_line, part, percent, several

AGREEMENT = (
    "",
    "scored by both",
    "misaligned: agree %",
    "kappa",
    "low: AUC",
    "low: kappa",
    "weighted kappa",
    "Spearman",
    "bias, points",
)
CORRECTED = ("", "n", "labelled", "as judged %", "Rogan-Gladen %", "PPI++ %", "sensitivity", "specificity")


def section(data: ReportData, labels: Labels) -> str:
    """The page's section on judges besides the main one; empty without any."""
    if not data.others:
        return ""
    names = [short(other.judge.identity, [o.judge.identity for o in data.others]) for other in data.others]
    header = ["", "main judge, %", *(f"{name}, %" for name in names)]
    found = [{(s.cell, s.condition): s for s in other.scores} for other in data.others]
    rows = [
        Row("", labels.of(s.cell), [_rate(s), *(_rate(scores.get((s.cell, s.condition))) for scores in found)])
        for s in ranked(data.scores)
    ]
    parts = [html_table("Misaligned among coherent completions, by judge", header, rows)]
    if chosen := [row for row in data.of(Agreement) if row.by == "total"]:
        parts.append(html_table("Agreement with the first judge", AGREEMENT, [_agreement(row) for row in chosen]))
        parts.append(
            html_table(
                "Agreement with the first judge, counts of completions", COUNTS, [_counts(row) for row in chosen]
            )
        )
        parts += [note_html(escape(note)) for note in notes(chosen)]
    if data.of(CorrectedRate):
        rows = [_corrected(row) for row in data.of(CorrectedRate)]
        parts.append(html_table("Share of misaligned completions, corrected", CORRECTED, rows))
        parts += [note_html(escape(note)) for note in corrected_notes(data.of(CorrectedRate))]
    if data.of(TransferCell) and any(other.judge.graded for other in data.others):
        parts.append(
            note_html(
                "The transfer matrix uses the main judge. For another judge of these completions, run: "
                "<code>spillover report RUN --judge JUDGE</code>."
            )
        )
    if data.of(SteeringPoint) or data.of(SteeringMatrixCell):
        parts.append(note_html("Steered completions are judged by the study's own judge only."))
    return "\n".join(parts)


def to_json(data: ReportData) -> dict[str, Any]:
    """The keys of results.json."""
    return {
        "judges": [
            {"identity": other.judge.identity, "source": other.judge.source, "limit": other.judge.limit}
            | {"ranking": json_rows.ranking(other.scores)}
            for other in data.others
        ],
        "agreement": json_rows.plain(data.of(Agreement)),
        "corrected": json_rows.plain(data.of(CorrectedRate)),
        "mix": json_rows.plain(data.of(CascadeSummary)),
    }


def rates_table(judges: Sequence[RunJudge], ranking: Callable[[str], Sequence[DomainScore]]) -> Table:
    """Rates of the ranked cells side by side for a terminal."""
    scores = [ranking(judge.identity) for judge in judges]
    labels = Labels(score.cell for score in scores[0])
    identities = [judge.identity for judge in judges]
    table = terminal("Misaligned %, by judge", ["subject"], [short(name, identities) for name in identities])
    found = [{(s.cell, s.condition): s for s in rows} for rows in scores]
    for score in ranked(scores[0]):
        key = score.cell, score.condition
        table.add_row(Text(one_line(labels.of(score.cell), 120)), *(_rate(rows.get(key)) for rows in found))
    return table


def agreement_tables(rows: Sequence[Agreement]) -> Iterable[Table]:
    """For each pair of judges: all figures in total, then the main ones part by part."""
    for first, second in dict.fromkeys((row.first, row.second) for row in rows):
        chosen = [row for row in rows if (row.first, row.second) == (first, second)]
        totals = [row for row in chosen if row.by == "total"]
        columns = ["all completions", "not fitted on"][: len(totals)]
        table = terminal(one_line(f"{second} against {first}", 120), ["measure"], columns)
        for name, *cells in zip((*AGREEMENT[1:], *COUNTS[1:]), *(_figures(row) for row in totals), strict=True):
            table.add_row(name, *cells)
        yield table
        if parts := [row for row in chosen if row.by != "total" and row.scored_both]:
            table = terminal("By domain and question", ["part"], ["n", "misaligned: kappa", "low: AUC", "bias, points"])
            for row in parts:
                figures = _figures(row)
                table.add_row(Text(_part(row)), figures[0], figures[2], figures[3], figures[7])
            yield table


def _figures(row: Agreement) -> list[str]:
    return [*_agreement(row).cells, *_counts(row).cells]


def corrected_table(rows: Sequence[CorrectedRate]) -> Table:
    """Raw and corrected prevalence for a terminal."""
    table = terminal("Share of misaligned completions, corrected", ["part"], CORRECTED[2:6])
    for row in map(_corrected, rows):
        table.add_row(Text(row.subject), *row.cells[1:5])
    table.caption = " ".join(corrected_notes(rows))
    table.caption_justify = "left"
    return table


def notes(rows: Sequence[Agreement]) -> list[str]:
    """What must be known to read these figures: answers that a judge was fitted on, and answers without scores."""
    found: list[str] = []
    for row in rows:
        if row.by != "total" or row.fresh:
            continue
        if row.fitted:
            found.append(
                f"In-sample: {part(row.fitted, row.scored_both)} of the compared completions are among those that "
                f"{row.second} or {row.first} was fitted on. Agreement on them does not generalise to other "
                "completions: fit a judge without some of the files and compare it on those files."
            )
        missing = row.scored_first + row.scored_second + row.scored_neither
        if missing:
            found.append(
                f"Alignment: {row.scored_both:,} of {several(row.n, 'completion')} scored by both, "
                f"{row.scored_first:,} by "
                f"{row.first} alone, {row.scored_second:,} by {row.second} alone, {row.scored_neither:,} by neither."
            )
        silent = sum(part.by == "question" and not part.scored_both for part in rows)
        if silent:
            found.append(
                f"Omitted from the table: {several(silent, 'question')} without a completion scored by both judges."
            )
        if row.questions < 10 and row.scored_both:
            found.append(f"Intervals resample {several(row.questions, 'question')}: too few for accurate intervals.")
    return list(dict.fromkeys(found))


def corrected_notes(rows: Sequence[CorrectedRate]) -> list[str]:
    """What the corrected figures are of, and how labels were weighted."""
    weighted = {row.trusted for row in rows if row.weighted}
    plain = {row.trusted for row in rows} - weighted
    found = ["Share of misaligned completions among all scored ones, not among coherent ones."]
    if weighted:
        found.append(
            f"Labels of {listing(sorted(weighted))} are weighted by the inverse of their sampling probability."
        )
    if plain:
        found.append(f"Judgments of {listing(sorted(plain))} have equal weights.")
    return found


def cascade_facts(summary: CascadeSummary) -> dict[str, str]:
    """Who of a cascade's judges gave the judgments, how far they differ where both did, and what that leaves open."""
    facts = {
        "by the first judge": f"{summary.first:,} of {several(summary.n, 'completion')}",
        "by the second judge": part(summary.second, summary.n),
    }
    if not summary.both:
        return facts | {"error": "unknown: no completion has an alignment score from both judges"}
    difference, absolute, disagree = (
        interval(e.value, e.low, e.high, scale, sign=sign)
        for e, scale, sign in (
            (summary.difference, 1, True),
            (summary.absolute, 1, False),
            (summary.disagree, 100, False),
        )
    )
    return facts | {
        "scored by both": f"{several(summary.both, 'completion')} of {several(summary.questions, 'question')}",
        "second minus first": f"{difference} points of alignment",
        "mean absolute difference": f"{absolute} points",
        f"disagree about alignment < {summary.threshold:g}": f"{disagree} %: "
        f"{summary.first_low:,} low by the first alone, {summary.second_low:,} by the second alone",
        "error on the other completions": "unknown: both judges scored only completions near a threshold, which do "
        "not represent the rest",
    }


def short(identity: str, among: Sequence[str]) -> str:
    """The judge's name, or all of its identity where the name means several."""
    name = identity if identity.startswith(("human:", "labels:")) else identity.partition(":")[0]
    return one_line(name if sum(other.startswith(name) for other in among) < 2 else identity, 40)


COUNTS = (
    "",
    "scored on both aspects",
    "misaligned by both",
    "by the first alone",
    "by the second alone",
    "by neither",
    "coherent: kappa",
    "scored by one judge",
    "by none",
)


def _part(row: Agreement | CorrectedRate) -> str:
    fresh = ", not fitted on" if isinstance(row, Agreement) and row.fresh else ""
    name = subject(row.name) if row.by == "domain" else one_line(row.name, 60)
    if isinstance(row, CorrectedRate) or row.by != "total":
        return f"{row.by} {name}".strip()
    return f"{short(row.second, [])} / {short(row.first, [])}{fresh}"


def _agreement(row: Agreement) -> Row:
    cells = [
        f"{row.scored_both:,}",
        _share(row.misaligned),
        _two(row.misaligned.kappa),
        _two(row.auc),
        _two(row.low.kappa),
        _two(row.alignment.weighted_kappa),
        _two(row.alignment.spearman),
        _points(row.alignment.bias),
    ]
    return Row("", _part(row), cells)


def _counts(row: Agreement) -> Row:
    d = row.misaligned
    figures = (d.n, d.both, d.first_only, d.second_only, d.neither)
    one = row.scored_first + row.scored_second
    cells = [*(f"{value:,}" for value in figures), _two(row.coherent.kappa), f"{one:,}", f"{row.scored_neither:,}"]
    return Row("", _part(row), cells)


def _corrected(row: CorrectedRate) -> Row:
    shares = [interval(e.value, e.low, e.high, 100) for e in (row.raw, row.rogan_gladen, row.ppi)]
    cells = [f"{row.n:,}", f"{row.labelled:,}", *shares, percent(row.sensitivity), percent(row.specificity)]
    return Row("", _part(row) if row.by != "total" else f"{short(row.judge, [])} by {short(row.trusted, [])}", cells)


def _rate(score: DomainScore | None) -> str:
    return interval(None if score is None else score.rate, score and score.low, score and score.high, 100)


def _share(d: Decision) -> str:
    return interval(d.agree.value, d.agree.low, d.agree.high, 100)


def _points(e: Estimate) -> str:
    return number(e.value, sign=True) if e.low is None else interval(e.value, e.low, e.high, sign=True)


def _two(e: Estimate) -> str:
    if e.value is None or e.low is None:
        return number(e.value, 2)
    ends = ", ".join(number(end, 2) for end in (e.low, e.high))
    return f"{number(e.value, 2)} [{ends}]"
