"""Diversity in the report: data sets side by side at equal numbers of rows, and whether those were enough."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.records.base import Variant
from spillover.records.data import DiversityScore
from spillover.report.html import Row, figure_html, folded_html, html_table, note_html
from spillover.report.labels import ORDER, subject, trained_as
from spillover.text import NONE, one_line

MOST_CURVES = 40
TEXTS = {  # in this order; all but the first are folded away
    "answer": "answers",
    "answer_cut": "answers, cut to one length",
    "question": "questions",
    "chat": "chats",
}


def section(rows: Sequence[DiversityScore]) -> str:
    """Tables by what was embedded or read, and a line chart of the first measure that has curves."""
    note = (
        "For every measure, higher = more diverse. Each depends on the number of rows, so data sets are compared on "
        "subsamples of one size. A line that still rises at its end indicates that the size was too small. "
        "vendi: effective number of distinct texts (q: order of the entropy; shifted: the published kernel). semantic: "
        "1 - mean cosine of two texts. cluster entropy: entropy over k-means clusters. compression and self bleu: "
        "compression ratio and overlap, negated. distinct: share of distinct word pairs."
    )
    parts = [note_html(note), _figure(rows)]
    for of, name in TEXTS.items():
        if tables := _tables([row for row in rows if row.of == of], name):
            first = len(parts) == 2
            parts.append(tables if first else folded_html(f"Diversity of the {name}", tables))
    return "\n".join(part for part in parts if part)


def _figure(rows: Sequence[DiversityScore]) -> str:
    drawable = [row for row in rows if len(row.convergence) > 1]
    if not drawable:
        return ""
    from spillover.report.curves import growth_curves  # Altair takes half a second to import

    first = min(drawable, key=lambda r: (not r.measure.startswith("vendi_q1"), r.of != "answer", r.measure, r.of))
    chosen = [row for row in drawable if (row.measure, row.of) == (first.measure, first.of)][:MOST_CURVES]
    curves: list[tuple[str, Variant, Sequence[tuple[int, float]]]] = [
        (_label(row), row.variant, row.convergence) for row in chosen
    ]
    name = f"{one_line(first.measure, 40)} of the {TEXTS[first.of]}"
    return figure_html(growth_curves(f"{name} as rows are added", name, curves))


def _tables(rows: Sequence[DiversityScore], texts: str) -> str:
    """Two tables: all measures in one would be wider than a page."""
    vendi = [row for row in rows if row.measure.startswith("vendi")]
    others = [row for row in rows if not row.measure.startswith("vendi")]
    named = (("Vendi scores", vendi), ("other measures", others))
    return "".join(_table(part, f"{name} of the {texts}") for name, part in named if part)


def _table(rows: Sequence[DiversityScore], what: str) -> str:
    measures = list(dict.fromkeys(row.measure for row in rows))
    row_by_measure: dict[tuple[Variant, str], dict[str, DiversityScore]] = {}
    for row in rows:
        row_by_measure.setdefault((row.variant, _label(row)), {})[row.measure] = row
    keys = sorted(row_by_measure, key=lambda key: (ORDER.index((key[0], "clean")), key[1]))
    lines = [
        Row(
            trained_as(variant),
            label,
            [_value(row_by_measure[variant, label].get(measure)) for measure in measures],
        )
        for variant, label in keys
    ]
    sizes = sorted({row.n for row in rows})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    header = ["", *(one_line(measure, 40).replace("_", " ") for measure in measures)]
    spread = "; ±: half of the interval over subsamples" if any(row.high is not None for row in rows) else ""
    return html_table(f"Diversity at {size} rows each: {what}{spread}", header, lines)


def _label(row: DiversityScore) -> str:
    dose = "" if row.dose in (0.0, 1.0) else f" · dose {row.dose:g}"
    return f"{subject(row.domain)}{dose}"


def _value(row: DiversityScore | None) -> str:
    """With its interval, which is as wide on either side."""
    if row is None or row.value is None:
        return NONE
    if row.low is None or row.high is None:
        return _digits(row.value)
    return f"{_digits(row.value)} ± {_digits((row.high - row.low) / 2, 2)}"


def _digits(value: float, most: int = 3) -> str:
    """So many significant digits: measures differ by orders of magnitude. 1,234 and not 1.23e+03."""
    return f"{value:,.0f}" if abs(value) >= 10**most else f"{value:#.{most}g}".rstrip(".")
