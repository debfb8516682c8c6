"""`spillover report`: the page and results.json of a run, from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Output file; default RUN/report.html.")
@click.option("--judge", help="Judge whose scores are shown as the main ones; default: the study's own.")
@as_json_option
def report(run: Path, out: Path | None, judge: str | None, as_json: bool) -> None:
    """Rank the cells of RUN and write the report page and results.json."""
    from spillover.analyses import ANALYSES
    from spillover.study.run import Run

    opened = Run.open(run)
    with opened.store.lock():
        opened.rank()
        opened.rank_others()
        opened.conclude(*(name for name in ANALYSES if name != "directions"))  # which reads all states again
        page = opened.report(out, judge)
    if as_json:
        click.echo(json.dumps(opened.results(judge)))
        return
    from spillover.cli.show import print_ranking

    print_ranking(opened, page, judge)
