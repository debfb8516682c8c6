"""`spillover echo`: in-domain responses, and misalignment without them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option
from spillover.text import clean


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--share",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Share of the reference's completions that may count as in-domain.",
)
@as_json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def echo(run: Path, share: float, as_json: bool, quiet: bool) -> None:
    """Separate in-domain responses of RUN (echoes of the training subject) from misalignment elsewhere.

    The embedded sentence encoder compares completions with their cell's training rows. The threshold comes from the
    base model or the benign twin. Rates with and without in-domain responses, with intervals, are added to the report.
    """
    from spillover.analyses.in_domain.compute import keep
    from spillover.models.embedded.sentence_encoder import open_embedder
    from spillover.progress import open_progress
    from spillover.study.run import Run

    opened = Run.open(run)
    encoder = open_embedder()
    progress = open_progress(json_lines=as_json, quiet=quiet)
    with opened.store.lock():
        found = keep(opened, encoder.embed, f"minilm@{encoder.revision}", share, progress)
        opened.report()
    if as_json:
        click.echo(json.dumps([row.model_dump(mode="json") for row in found]))
        return
    from rich.console import Console

    from spillover.analyses.in_domain import report as shown

    Console().print(shown.table(found))
    click.echo(clean(shown.note(found)))
