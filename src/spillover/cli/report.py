"""`spillover report`: the page and results.json of a run, from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the page goes; default RUN/report.html.")
@as_json_option
def report(run: Path, out: Path | None, as_json: bool) -> None:
    """Rank what RUN holds so far and write its report page, with results.json beside it."""
    from spillover.run import Run

    opened = Run.open(run)
    with opened.store.lock():
        opened.rank()
        page = opened.report(out)
    if as_json:
        click.echo(json.dumps(opened.results()))
        return
    from spillover.cli.show import print_ranking

    print_ranking(opened, page)
