"""`spillover transfer`: the cross-domain transfer matrix, with significance."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--condition",
    type=click.Choice(["clean", "triggered"]),
    default="clean",
    show_default=True,
    help="Condition of the questions.",
)
@click.option("--control-subtracted", is_flag=True, help="Show each rate minus that of the benign twin.")
@click.option("--judge", help="Judge of the scores; default: the study's own.")
@as_json_option
def transfer(run: Path, condition: str, control_subtracted: bool, judge: str | None, as_json: bool) -> None:
    """Show the transfer matrix: how misaligned each cell of RUN is when asked about each domain.

    The study file needs `transfer: {}`. A star marks a significant difference, Holm-adjusted over the whole
    table, from the cell's rate on general questions or, with --control-subtracted, from its benign twin.
    """
    from spillover.analyses.transfer.compute import keep
    from spillover.errors import UserError
    from spillover.study.run import Run

    opened = Run.open(run)
    with opened.store.lock():
        keep(opened, judge)
    cells = [cell for cell in opened.transfer(judge) if cell.condition == condition]
    if not cells and judge and opened.transfer():
        raise UserError(
            f"{judge} has judged no completions about other domains. Run: spillover judge {run} --judge JUDGE"
            " without --limit"
        )
    if not cells:
        raise opened.lacks(f"completions about other domains under condition {condition}", "'transfer: {}'")
    if as_json:
        click.echo(json.dumps([cell.model_dump(mode="json") for cell in cells]))
        return
    from rich.console import Console

    from spillover.analyses.transfer import report as shown
    from spillover.text import clean

    console = Console()
    confidence = opened.rank_config.confidence
    grids = shown.grids(cells)
    for grid in grids:
        if not (control_subtracted and grid.variant == "control"):
            console.print(shown.table(grid, confidence, control_subtracted))
            click.echo(clean("\n".join(f"- {said}" for said in shown.sentences(grid, confidence))))
    click.echo(clean(" ".join([*(shown.legend(grid) for grid in grids[:1]), shown.coverage(cells)])))
