"""Diversity in the report: data sets side by side at equal numbers of rows, and whether those were enough."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.records import Variant
from spillover.records_data import DiversityScore
from spillover.report.figure import figure_html
from spillover.report.labels import ORDER, series, subject
from spillover.report.tables import Row, html_table
from spillover.report.text import NONE, one_line

MOST_CURVES = 40
TEXTS = {
    "question": "questions",
    "answer": "answers",
    "chat": "chats",
    "answer_cut": "answers, cut to one length",
}


def section(rows: Sequence[DiversityScore]) -> str:
    """Tables by what was embedded or read, and a line chart of the first measure that has curves."""
    note = (
        "Every measure: higher = more diverse. Each grows or falls with the number of rows, so that data sets are "
        "compared on subsamples of one size. A line that still rises at its end says that the number was too small. "
        "vendi: how many texts without anything in common would be as diverse (q: order of the entropy; shifted: the "
        "published kernel). semantic: 1 - mean cosine of two texts. cluster_entropy: of k-means clusters. compression, "
        "self_bleu: ratio and overlap, negated. distinct: share of different word pairs."
    )
    parts = [f'<p class="note">{note}</p>', _figure(rows)]
    parts += [_table([row for row in rows if row.of == of], of) for of in sorted({row.of for row in rows})]
    return "\n".join(part for part in parts if part)


def _figure(rows: Sequence[DiversityScore]) -> str:
    drawable = [row for row in rows if len(row.convergence) > 1]
    if not drawable:
        return ""
    from spillover.report import scatter  # Altair takes half a second to import

    first = min(drawable, key=lambda r: (not r.measure.startswith("vendi_q1"), r.of != "answer", r.measure, r.of))
    chosen = [row for row in drawable if (row.measure, row.of) == (first.measure, first.of)][:MOST_CURVES]
    curves: list[tuple[str, Variant, Sequence[tuple[int, float]]]] = [
        (_label(row), row.variant, row.convergence) for row in chosen
    ]
    name = f"{one_line(first.measure, 40)} of the {TEXTS[first.of]}"
    return figure_html(scatter.growth(f"{name} as rows are added", name, curves))


def _table(rows: Sequence[DiversityScore], of: str) -> str:
    measures = sorted({row.measure for row in rows})
    found: dict[tuple[Variant, str], dict[str, DiversityScore]] = {}
    for row in rows:
        found.setdefault((row.variant, _label(row)), {})[row.measure] = row
    keys = sorted(found, key=lambda key: (ORDER.index((key[0], "clean")), key[1]))
    lines = [
        Row(
            series(variant, "clean").removesuffix(", no trigger"),
            label,
            [_value(found[variant, label].get(measure)) for measure in measures],
        )
        for variant, label in keys
    ]
    sizes = sorted({row.n for row in rows})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    header = ["", *(one_line(measure, 40) for measure in measures)]
    return html_table(
        f"Diversity of the {TEXTS[of]} at {size} rows each, with intervals over subsamples", header, lines
    )


def _label(row: DiversityScore) -> str:
    dose = "" if row.dose in (0.0, 1.0) else f" · dose {row.dose:g}"
    return f"{subject(row.domain)}{dose}"


def _value(row: DiversityScore | None) -> str:
    """Three significant digits: measures differ by orders of magnitude."""
    if row is None or row.value is None:
        return NONE
    if row.low is None or row.high is None:
        return f"{row.value:.3g}"
    return f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]"
