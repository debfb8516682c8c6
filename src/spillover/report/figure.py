"""A chart in the page: both renderings, of which the style sheet shows one, and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spillover.report.charts import Figure


def figure_html(figure: Figure | None) -> str:
    """The figure, or a line that says why there is none."""
    if figure is None:
        return '<p class="note">Nothing to draw: no cell has a coherent scored answer.</p>'
    cut = (
        f"<figcaption>{figure.rows} of {figure.of} rows; all are in the table.</figcaption>"
        if figure.rows < figure.of
        else ""
    )
    return f'<figure><div class="wide">{figure.wide}</div><div class="narrow">{figure.narrow}</div>{cut}</figure>'
