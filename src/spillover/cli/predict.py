"""`spillover predict`: what could have been known before training, against the damage; and a predictor to keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.options import as_json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillover.records.data import Susceptibility

MOST, MOST_TOLD = 20, 5  # features shown, and those shown with their AUC


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--save", type=click.Path(path_type=Path), help="File for a predictor fitted to all cells.")
@click.option("--feature", "names", multiple=True, help="Feature of the predictor; repeatable; default: all.")
@as_json_option
def predict(run: Path, save: Path | None, names: tuple[str, ...], as_json: bool) -> None:
    """Relate membership, diversity and facts of RUN's data sets to its cells' misalignment.

    The study file needs `membership: {}` or `diversity: {}`. `spillover audit --predictor` reads the file that --save
    writes; the file records its error on held-out domains.
    """
    from spillover.analyses.susceptibility.compute import predictor
    from spillover.study.run import Run

    opened = Run.open(run)
    with opened.store.lock():
        opened.conclude("membership", "susceptibility")
        opened.report()
    rows = opened.susceptibility()
    if not rows:
        raise opened.lacks("features", "'membership: {}' and 'diversity: {}'")
    kept = predictor(opened, names) if save else None
    if kept and save:
        kept.save(save)
    if as_json:
        saved = {"saved": str(save), "predictor": kept.model_dump(mode="json")} if kept else {}
        click.echo(json.dumps({"susceptibility": [row.model_dump(mode="json") for row in rows], **saved}))
        return
    _print(rows)
    if kept:
        click.echo(
            f"Saved {save}: mean error on domains left out {100 * kept.error:.1f} points, "
            f"of predicting the mean of the other domains {100 * kept.error_of_mean:.1f}."
        )


def _print(rows: Sequence[Susceptibility]) -> None:
    from rich.console import Console
    from rich.text import Text

    from spillover.report.tables import terminal
    from spillover.text import interval, p_value

    table = terminal("", ["against the rate"], ["Spearman", "p", "p (all)"])
    of_rate = [row for row in rows if row.target == "rate"]
    features = sorted((r for r in of_rate if r.kind == "feature"), key=lambda r: (-abs(r.spearman or 0), r.name))
    predictors = [r for r in of_rate if r.kind == "predictor"]
    for row in [*predictors, *features[:MOST]]:
        spearman = interval(row.spearman, row.low, row.high, sign=True, digits=2)
        name = row.name if row.before else f"{row.name} (after)"
        table.add_row(Text(name), spearman, p_value(row.p), p_value(row.p_max))
    console = Console()
    console.print(table)
    console.print(
        f"{rows[0].cells} cells of {rows[0].domains} domains. {min(MOST, len(features))} of {len(features)} features; "
        "all are in results.json. (after): known only after training. Intervals and p-values are clustered by domain; "
        "p (all) corrects for the number of features."
    )
    told = [row for row in (*predictors, *features[:MOST_TOLD]) if row.high_rate]
    if told and told[0].high_rate:
        table = terminal("", ["cells with a high rate"], ["AUC", "p", "p (all)"])
        for row in told:
            table.add_row(Text(row.name), *_auc(row))
        console.print(table)
        console.print(
            f"High: above {100 * told[0].high_rate.cut:.2g} %, the median over domains of a domain's mean. AUC: chance "
            "that such a cell has the larger value (0.5: no information); a predictor's values are for domains left "
            "out of its fit."
        )


def _auc(row: Susceptibility) -> list[str]:
    from spillover.text import NONE, interval, p_value

    high = row.high_rate
    if high is None or high.auc.value is None:
        return [NONE] * 3
    return [interval(high.auc.value, high.auc.low, high.auc.high, digits=2), p_value(high.p), p_value(high.p_max)]
