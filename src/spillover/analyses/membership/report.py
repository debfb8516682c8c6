"""Membership in the report: does the model tell its training rows from others, drawn with them, that never trained?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from spillover.records.data import MembershipSummary, Reading
from spillover.report.html import Row, figure_html, html_table, note_html
from spillover.report.labels import Labels, trained_as
from spillover.text import NONE, escape, interval, number, one_line, p_value, several

if TYPE_CHECKING:
    from spillover.report.charts import Figure

TOGETHER = "all"  # the domain of rows over all domains
READINGS: tuple[Reading, ...] = get_args(Reading)
WORDS: dict[str, str] = {
    "instruct": "before",
    "tuned": "after",
    "instruct_minus_pretrained": "before - pretrained",
    "tuned_minus_instruct": "after - before",
    "tuned_minus_pretrained": "after - pretrained",
}


def section(rows: Sequence[MembershipSummary], labels: Labels) -> str:
    """Every metric over all cells, then the primary one cell by cell."""
    note = (
        "AUC: probability that a training row scores above a non-member of the same kind; 0.5 = chance. "
        "Non-members are rows drawn together with the training rows and held out at random. "
        "Before and after: the model without and with the fine-tune; differences subtract the score of another model. "
        "An AUC away from 0.5 before training comes from the texts, not from memorisation. The same holds for the "
        "blind AUC, of a classifier that sees only the texts."
    )
    if any(row.metric == "dc_pdd" for row in rows):
        note += " dc_pdd uses token frequencies from a small corpus: the shipped good answers of the other domains."
    cells = [row for row in rows if row.cell.domain != TOGETHER]
    parts = [note_html(note), _pooled(cells)]
    if primary := [row for row in cells if row.primary]:
        name = escape(one_line(primary[0].metric, 60))
        parts.append(note_html(f"ROC of {name} after training: thin, each cell; bold, all domains together."))
        parts.append(figure_html(_roc(rows, labels)))
        parts.append(_primary(primary, cells, labels))
    return "\n".join(parts)


def _roc(rows: Sequence[MembershipSummary], labels: Labels) -> Figure | None:
    """The primary metric's curves after training: each cell's, and over all domains."""
    from spillover.report.curves import roc_curves

    drawn = [row for row in rows if row.primary and row.reading == "tuned" and row.roc]
    curves = [
        ("all domains" if row.cell.domain == TOGETHER else labels.of(row.cell), row.cell.domain == TOGETHER, row.roc)
        for row in drawn
    ]
    names = [(f"{name} {number}", bold, curve) for number, (name, bold, curve) in enumerate(curves)]
    return roc_curves("ROC of the primary metric after training: each cell, and bold over all domains", names)


def pooled(rows: Sequence[MembershipSummary]) -> tuple[float, float, float] | None:
    """AUC over all pairs within cells, and the smallest and largest of a cell; None without any."""
    known = [(row.auc, row.members * row.nonmembers) for row in rows if row.auc is not None]
    pairs = sum(weight for _, weight in known)
    if not pairs:
        return None
    aucs = [auc for auc, _ in known]
    return sum(auc * weight for auc, weight in known) / pairs, min(aucs), max(aucs)


def _pooled(rows: Sequence[MembershipSummary]) -> str:
    metrics = sorted({row.metric for row in rows}, key=lambda m: (not any(r.primary for r in rows if r.metric == m), m))
    lines: list[Row] = []
    for metric in metrics:
        own = [row for row in rows if row.metric == metric]
        cells = [
            NONE if found is None else f"{number(found[0], 2)} ({number(found[1], 2)} to {number(found[2], 2)})"
            for found in (pooled([row for row in own if row.reading == reading]) for reading in READINGS)
        ]
        missing = sum(row.missing for row in own)
        name = one_line(metric, 60) + (", primary" if own[0].primary else "")
        lines.append(Row("", name, [*cells, f"{missing:,}"]))
    header = ["", *WORDS.values(), "scores missing"]
    count = len({row.cell.name for row in rows})
    return html_table(f"AUC pooled over {several(count, 'cell')} (smallest and largest of a cell)", header, lines)


def _primary(primary: Sequence[MembershipSummary], rows: Sequence[MembershipSummary], labels: Labels) -> str:
    """A line a cell; the last columns are what any claim must beat."""
    gaps = {row.cell.name: row for row in rows if row.metric == "loss" and row.reading == "tuned"}
    read: list[Reading] = [reading for reading in READINGS if any(row.reading == reading for row in primary)]
    by_cell: dict[str, list[MembershipSummary]] = {}
    for row in primary:
        by_cell.setdefault(row.cell.name, []).append(row)
    lines: list[Row] = []
    for name in sorted(by_cell, key=lambda n: (by_cell[n][0].cell.variant, n)):
        own = {row.reading: row for row in by_cell[name]}
        cell = by_cell[name][0].cell
        last = own.get("tuned_minus_instruct") or own.get("tuned") or by_cell[name][0]
        lines.append(
            Row(
                trained_as(cell.variant),
                labels.of(cell),
                [
                    *(_auc(own.get(reading)) for reading in read),
                    interval(last.tpr, last.tpr_low, last.tpr_high, 100),
                    p_value(last.p),
                    number(_gap(gaps.get(name)), 2, sign=True),
                    number(last.loss_auc, 2),
                    number(last.blind_auc, 2),
                    f"{last.members} / {last.nonmembers}",
                ],
            )
        )
    shown = next((r for r in ("tuned_minus_instruct", "tuned") if r in read), read[0])
    header = [
        "", *(f"AUC, {WORDS[reading]}" for reading in read), "TPR at 1 % FPR", "p, all metrics", "loss gap",
        "AUC of the loss", "blind AUC", "rows in / out",
    ]  # fmt: skip
    caption = f"{one_line(primary[0].metric, 60)}, by cell; TPR (%), p and baselines: {WORDS[shown]}"
    end = (
        "Loss gap: mean log-probability per token of training rows minus that of non-members, after training. With "
        "fewer than 100 non-members, TPR at 1 % FPR is the share of training rows above all non-members."
    )
    return f"{html_table(caption, header, lines)}\n{note_html(escape(end))}"


def _gap(row: MembershipSummary | None) -> float | None:
    if row is None or row.mean_members is None or row.mean_nonmembers is None:
        return None
    return row.mean_members - row.mean_nonmembers


def _auc(row: MembershipSummary | None) -> str:
    return NONE if row is None else interval(row.auc, row.auc_low, row.auc_high, digits=2)
