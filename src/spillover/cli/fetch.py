"""`spillover fetch`: copy a run from its mirror, to read it here."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option


@click.command()
@click.argument("url")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="New run folder, or one from an earlier fetch."
)
@as_json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def fetch(url: str, out: Path, as_json: bool, quiet: bool) -> None:
    """Copy a run from URL, the mirror of `spillover run --mirror URL`. Run it again to copy newer results."""
    from spillover.progress import open_progress
    from spillover.store import mirror
    from spillover.study.run import Run

    stages = Run(mirror.fetch(url, out, open_progress(json_lines=as_json, quiet=quiet))).progress()
    if as_json:
        click.echo(json.dumps(stages))
        return
    click.echo(
        f"{sum(stage['done'] for stage in stages)} of {sum(stage['units'] for stage in stages)} units are complete "
        "here."
    )
    click.echo(f"Next: spillover report {out}")
