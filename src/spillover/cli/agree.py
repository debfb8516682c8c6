"""`spillover agree`: agreement of two judges of a run, or of a judge and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.options import as_json_option
from spillover.errors import UserError
from spillover.text import clean

if TYPE_CHECKING:
    from spillover.study.run import Run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("first")
@click.argument("second", required=False)
@click.option("--labels", type=click.Path(path_type=Path), help="Filled-in sheet of `spillover label`.")
@as_json_option
def agree(run: Path, first: str, second: str | None, labels: Path | None, as_json: bool) -> None:
    """Compare two judges of RUN on the same completions: FIRST is the reference, SECOND is compared with it.

    Judges are named by their identity or its beginning, such as imported, probe or human:ann. With --labels the judges
    are compared with a filled-in sheet. Shows totals and rows by domain and question, with intervals clustered by
    question.
    """
    from spillover.analyses.agreement import compute as stage
    from spillover.analyses.agreement import correct
    from spillover.study.run import Run

    opened = Run.open(run)
    if second is None and labels is None:
        raise UserError("Agreement needs two judges. Name a second one, or give --labels FILE.")
    completions, seed, config = opened.completions(), opened.manifest.seed, opened.rank_config
    judged = {name: opened.judgments(_identity(opened, name)) for name in (first, second) if name is not None}
    identity = {name: _identity(opened, name) for name in judged}
    rows = []
    corrected = []
    if second is not None:
        names = identity[first], identity[second]
        rows += stage.run(completions, judged[first], judged[second], names, config, seed)
        other = opened.judge(identity[second])
        if other is not None and other.partial:
            chances = stage.chances(opened, other)
            corrected += correct.run(completions, judged[first], judged[second], names, config, chances)
    if labels is not None:
        from spillover.study.labels import read_labels

        sheet = read_labels(opened, labels, f"labels:{labels.name}")
        for name in judged:
            sheet_name = f"labels:{labels.name}"
            pair = (sheet_name, identity[name])
            rows += stage.run(completions, sheet.judgments, judged[name], pair, config, seed)
            turned = (identity[name], sheet_name)
            corrected += correct.run(completions, judged[name], sheet.judgments, turned, config, sheet.chances)
    if as_json:
        told = {
            "agreement": [row.model_dump(mode="json") for row in rows],
            "corrected": [row.model_dump(mode="json") for row in corrected],
        }
        click.echo(json.dumps(told))
        return
    from rich.console import Console

    from spillover.analyses.agreement import report as judges

    console = Console()
    for table in judges.agreement_tables(rows):
        console.print(table)
    if corrected:
        console.print(judges.corrected_table(corrected))
    for note in judges.notes(rows):
        click.echo(clean(note))


def _identity(opened: Run, name: str) -> str:
    found = opened.judge(name)
    assert found is not None
    return found.identity
