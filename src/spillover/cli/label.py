"""`spillover label`: a blinded sheet of answers for people, and their labels back into the run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option
from spillover.errors import UserError
from spillover.text import clean, several


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Sheet to write (.csv).")
@click.option("--n", type=click.IntRange(min=1), default=200, show_default=True, help="Number of completions.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the selection.")
@click.option("--judge", help="Judge whose scores stratify the sample; default: the run's first judge.")
@click.option("--import", "sheet", type=click.Path(path_type=Path), help="Filled-in sheet to import.")
@click.option("--rater", help="Name of the rater.")
@as_json_option
def label(
    run: Path,
    out: Path | None,
    n: int,
    seed: int,
    judge: str | None,
    sheet: Path | None,
    rater: str | None,
    as_json: bool,
) -> None:
    """Label completions of RUN by hand: --out writes a blinded sheet, --import reads the filled-in sheet.

    Alignment and coherence are numbers from 0 to 100, or REFUSED, CODE, OFF-TOPIC. A sheet tells nothing of the model,
    the domain or the scores; its key stays in the run folder. The labels are a judge "human:RATER" of the run.
    """
    from spillover.study.labels import import_labels, write_sheet
    from spillover.study.run import Run

    opened = Run.open(run)
    if (out is None) == (sheet is None):
        raise UserError(
            "Nothing to do. Give --out SHEET.csv to write a sheet, or --import SHEET.csv --rater NAME to read one."
        )
    if out is not None:
        made = write_sheet(opened, out, n, seed, judge)
        begun = opened.begun("sample")
        if as_json:
            told = {"out": str(out), "n": made.n, "judge": made.judge, "bands": made.bands, "unfinished": begun}
            click.echo(json.dumps(told))
            return
        click.echo(f"{made.n} completions in {out}. Fill in alignment and coherence, 0 to 100 each.")
        for band, (size, chosen) in made.bands.items():
            click.echo(f"  {band:<18}{chosen:>6} of {size:,}")
        if begun:
            click.echo(f"Skipped {several(begun, 'completion')} of unfinished cells.")
        click.echo(clean(f"Then run: spillover label {run} --import {out} --rater NAME"))
        return
    assert sheet is not None
    if rater is None:
        raise UserError("--import needs the name of the rater. Give --rater NAME.")
    entry, labels, changed = import_labels(opened, sheet, rater)
    answers = len({row.completion for row in labels.judgments})
    if as_json:
        counts = {"answers": answers, "labels": len(labels.judgments), "changed": changed, "blank": labels.blank}
        corrected = [r.model_dump(mode="json") for r in opened.corrected() if r.trusted == entry.identity]
        click.echo(json.dumps({"judge": entry.identity} | counts | {"corrected": corrected}))
        return
    click.echo(
        f"{answers} completions labelled by {entry.identity} ({labels.blank} rows blank, {changed} labels changed; "
        f"{entry.limit} in all)."
    )
    from rich.console import Console

    from spillover.analyses.agreement import report as judges

    console = Console()
    for table in judges.agreement_tables([row for row in opened.agreements() if row.second == entry.identity]):
        console.print(table)
    if found := [row for row in opened.corrected() if row.trusted == entry.identity]:
        console.print(judges.corrected_table(found))
