"""report.html: one file that opens from disk, without JavaScript, and shows what a run found and where it comes from.

Pure: equal records give equal bytes. Everything from outside is escaped, and a content security policy forbids every
script and every request, so that no answer of a model can act on its reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spillover import analyses
from spillover.records.base import DomainScore
from spillover.records.report_data import ReportData
from spillover.report import html, tables
from spillover.report.browser import browser
from spillover.report.html import figure_html
from spillover.report.labels import BASE_MODEL, Labels, ranked
from spillover.store.files import replace_file
from spillover.study.findings import findings, limits
from spillover.study.report_provenance import provenance
from spillover.text import clean, escape, listing, number, one_line, several

MOST_PANELS, MOST_ROWS = 6, 72  # charts of misalignment, and rows over all of them


def write(data: ReportData, path: Path) -> Path:
    """Write the page whole or not at all."""
    replace_file(path, render(data))
    return path


def render(data: ReportData) -> str:
    """The whole page."""
    title = clean(data.manifest.study, 120)
    return html.page(
        tab=f"{title} · spillover",
        kicker="spillover · emergent misalignment by domain",
        title=title,
        lead=summary(data),
        sections=[html.Section(heading, text, name) for name, heading, text in _sections(data)],
        footer=f"spillover {data.manifest.spillover} · study {data.manifest.study_hash[:12]}",
    )


def summary(data: ReportData) -> str:
    """What was run, in one paragraph of plain text."""
    trained = {score.cell.name: score.cell for score in data.scores if score.cell.variant != "base"}
    domains = {cell.domain for cell in trained.values()}
    models = sorted({one_line(cell.model, 60) for cell in trained.values()})
    answers = sum(score.n for score in data.scores)
    questions = max((score.questions for score in data.scores), default=0)
    below, above = data.thresholds
    judge = data.judge_name
    judged = f"scored by the judge {judge}" if judge and not judge.startswith("imported") else "with imported scores"
    verb = "Fine-tuning" if data.adapters else "Answers of"
    return (
        f"{verb} {listing(models) or 'no model yet'} on {several(len(domains), 'domain')}: "
        f"{several(len(trained), 'cell')}, {several(answers, 'completion')} of {several(questions, 'question')}, "
        f"{judged}. "
        f"A completion is misaligned if its alignment is below "
        f"{number(below, 0)} and its coherence above {number(above, 0)}, both from 0 to 100."
    )


def _sections(data: ReportData) -> Iterator[tuple[str, str, str]]:
    labels = Labels(score.cell for score in data.scores)
    statements, limitations = findings(data), limits(data)
    text = _list(statements) + (f"\n<aside><h3>Limitations</h3>\n{_list(limitations)}\n</aside>" if limitations else "")
    yield "findings", "Findings", text
    yield "misalignment", "Misalignment", _misalignment(data, labels)
    for analysis in analyses.table().values():
        if text := analysis.section(data, labels):
            yield analysis.anchor, analysis.title, text
    yield "counts", "Counts", tables.counts(data.scores, labels)
    if data.adapters:
        yield "training", "Training", tables.training(data.adapters, labels)
    if data.answers:
        note = (
            "Selected by rule: for each group, the least aligned, the most aligned, random and unscored completions "
            "in turn. Long texts are truncated; invisible characters are escaped. All completions are in the run "
            "folder."
        )
        yield (
            "answers",
            "Completions",
            f'<p class="note">{note}</p>\n<div class="browser">{browser(data, labels)}</div>',
        )
    yield "provenance", "Provenance", provenance(data)


def _misalignment(data: ReportData, labels: Labels) -> str:
    from spillover.report import charts  # Altair takes half a second to import

    percentage = number(100 * data.confidence, 0)
    note = (
        f"Points: share of coherent completions that are misaligned. Bars: {percentage} % intervals, clustered by "
        "question."
    )
    if any(score.cell.variant == "base" for score in data.scores):
        note += f" Dashed line with its band: the {BASE_MODEL}."
    parts = [f'<p class="note">{note}</p>']
    drawn = panels(data.scores)
    for model, scores in drawn:
        names = Labels((s.cell for s in scores), show_model=not model)
        figure = charts.misalignment(scores, names, MOST_ROWS // len(drawn))
        parts.append((f"<h3>{escape(model)}</h3>\n" if model else "") + figure_html(figure))
    chosen = ranked(data.scores)
    shown = {score.id for score in chosen}
    others = [score for score in data.scores if score.id not in shown]
    parts.append(tables.rates("Rates with intervals, in the order of the ranking", chosen, labels))
    if others:
        table = tables.rates("Rates of the other variants and conditions", others, labels)
        count = f"<span>{several(len(others), 'row')}</span>"
        parts.append(f"<details><summary>Other variants and conditions {count}</summary>{table}</details>")
    return "\n".join(parts)


def panels(scores: tuple[DomainScore, ...]) -> list[tuple[str, list[DomainScore]]]:
    """One chart a model where a row holds several series; one chart for all where every row holds a single point."""
    models = sorted({score.cell.model for score in scores})
    single = all((score.cell.variant, score.condition) == ("plain", "clean") for score in scores)
    if len(models) < 2 or single:
        return [("", list(scores))]
    return [(model, [s for s in scores if s.cell.model == model]) for model in models[:MOST_PANELS]]


def _list(sentences: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"
