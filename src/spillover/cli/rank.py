"""`spillover rank`: the cells of a run in order, with the significance of every pair."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--judge", metavar="JUDGE", help="Judge to rank by; default: the run's first judge.")
@as_json_option
def rank(run: Path, judge: str | None, as_json: bool) -> None:
    """Rank the cells of RUN and show which differences are significant.

    All pairs of cells are compared at once; cells that are not separable are not ordered. The report page is not
    changed; `spillover report` rewrites it.
    """
    from spillover.analyses.ranking.comparisons import MOST_CELLS
    from spillover.analyses.ranking.report import main_order, order_sentences
    from spillover.analyses.trigger.report import pooled_sentences
    from spillover.report import json_rows
    from spillover.report.labels import ranked
    from spillover.report.tables import ranking_table
    from spillover.study.run import Run

    opened = Run.open(run)
    with opened.store.lock():
        opened.rank(judge)
    standing, scores = opened.standing(judge), opened.ranking(judge)
    if as_json:
        rows = [score.model_dump(mode="json") for score in scores]
        click.echo(json.dumps({"ranking": rows, "standing": json_rows.plain([standing])[0] if standing else None}))
        return
    from rich.console import Console

    from spillover.text import clean

    Console().print(ranking_table(scores))
    if standing is None:
        return
    found = main_order(standing, scores)
    says = (
        order_sentences(*found, opened.rank_config.confidence)
        if found
        else [
            f"No pairs are compared: this needs 2 to {MOST_CELLS} ranked cells, and the run has {len(ranked(scores))}."
        ]
    )
    for sentence in [*says, *pooled_sentences(standing.pooled)]:
        click.echo(clean(f"- {sentence}"))
