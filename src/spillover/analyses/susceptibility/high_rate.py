"""Can cells of a high rate be distinguished from the others? AUC and ROC of features and predictors, over cells.

The curve is that of all cells; whiskers at deciles of the value are intervals of both rates over whole domains.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spillover.membership.evaluate import roc
from spillover.records.base import Estimate
from spillover.records.data import HighRate, Susceptibility
from spillover.report.html import Row, figure_html, html_table
from spillover.text import escape, interval, one_line, p_value, percent, several

HEADER = ("", "AUC", "p", "p, all features", "high cells", "other cells")


def words(high: HighRate) -> str:
    """What is called high, and how to read the figures."""
    return (
        f"High: a rate above {percent(high.cut)} %, the median over domains of a domain's mean; "
        f"{several(high.cells, 'cell')} are high, {several(high.others, 'cell')} not. AUC: probability that a high "
        "cell "
        "has the larger value; 0.5 = no information, below 0.5 high cells have the lower values. Cells of one domain "
        "are "
        "also compared, so the AUC can reflect the dose; p permutes whole domains. A predictor's values are for "
        "held-out domains; its null is refitted and need not be centred at 0.5."
    )


def table(rows: Sequence[Susceptibility]) -> str:
    """AUCs of these features and predictors; empty where none has one."""
    found = [(r, r.high_rate) for r in rows if r.high_rate]
    if not found:
        return ""
    lines = [Row("", one_line(r.name, 80), [*figures(high), f"{high.cells}", f"{high.others}"]) for r, high in found]
    note = f'<p class="note">{escape(words(found[0][1]))}</p>'
    return html_table("Classification of cells with a high rate", HEADER, lines) + note


def figures(high: HighRate) -> list[str]:
    """AUC with its interval, and both p."""
    return [interval(high.auc.value, high.auc.low, high.auc.high, digits=2), p_value(high.p), p_value(high.p_max)]


def curve(row: Susceptibility) -> str:
    """The ROC of one feature or predictor as HTML; empty where it has none."""
    from spillover.report.curves import roc_curves  # Altair takes half a second to import

    if not row.high_rate:
        return ""
    name = one_line(row.name, 80)
    _, x_N, rate_N = zip(*row.points, strict=True)
    axes = roc(x_N, np.asarray(rate_N) > row.high_rate.cut)
    points = list(zip(*(axis.tolist() for axis in axes), strict=True))
    whiskers = [(_span(p.false_positive), _span(p.true_positive)) for p in row.high_rate.roc]
    drawn = roc_curves(f"ROC of {name} for cells with a high rate", [(name, True, points)], whiskers)
    note = f"ROC of {name} for cells with a high rate, all cells together; thin lines: intervals of both rates."
    return f'<p class="note">{escape(note)}</p>\n{figure_html(drawn)}'


def _span(e: Estimate) -> tuple[float, float, float]:
    value = e.value or 0.0
    return value, value if e.low is None else e.low, value if e.high is None else e.high
