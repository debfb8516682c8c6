"""`spillover status`: progress and failures of a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option
from spillover.text import clean


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@as_json_option
def status(run: Path, as_json: bool) -> int:
    """Show the progress of RUN, a run folder, also while it is running. Exit code 1 if cells have failed."""
    from spillover.study.run import Run

    opened = Run.open(run)
    stages = opened.progress()
    manifest = opened.manifest if (opened.path / "manifest.json").exists() else None
    failures = manifest.failures if manifest else ()
    if as_json:
        rows = {"stages": stages, "failures": [failure.model_dump() for failure in failures]}
        click.echo(json.dumps(rows, indent=2))
    else:
        for stage in (stage for stage in stages if stage["units"]):
            state = "complete" if stage["done"] == stage["units"] else f"{stage['rows']:,} rows so far"
            click.echo(f"{stage['stage']:<11}{stage['done']:>6} of {stage['units']:<6} {state}")
        for failure in failures:
            click.echo(clean(f"failed: {failure.cell} at {failure.stage}: {failure.error}"))
    return 1 if failures else 0
