"""Commands that show a run, from its folder alone: status, fetch, report, rank, transfer, echo and predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.run_command import (
    PATH,
    as_json_option,
    print_json,
    quiet_option,
    run_command,
)
from spillover.errors import UserError
from spillover.text import NONE, clean, interval, p_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillover.records.data import Susceptibility
    from spillover.study.run import Run


MOST, MOST_TOLD = 20, 5  # features shown by predict, and those shown with their AUC


@run_command()
@as_json_option
def status(run: Run, as_json: bool) -> int:
    """Show the progress of RUN, a run folder, also while it is running. Exit code 1 if cells have failed."""
    stages = run.progress()
    manifest = run.manifest if (run.path / "manifest.json").exists() else None
    failures = manifest.failures if manifest else ()
    if as_json:
        print_json({"stages": stages, "failures": failures}, indent=2)
    else:
        for stage in (stage for stage in stages if stage["units"]):
            state = "complete" if stage["done"] == stage["units"] else f"{stage['rows']:,} rows so far"
            click.echo(f"{stage['stage']:<11}{stage['done']:>6} of {stage['units']:<6} {state}")
        for failure in failures:
            click.echo(clean(f"failed: {failure.cell} at {failure.stage}: {failure.error}"))
    return 1 if failures else 0


@click.command()
@click.argument("url")
@click.option("--out", type=PATH, required=True, help="New run folder, or one from an earlier fetch.")
@as_json_option
@quiet_option
def fetch(url: str, out: Path, as_json: bool, quiet: bool) -> None:
    """Copy a run from URL, the mirror of `spillover run --mirror URL`. Run it again to copy newer results."""
    from spillover.progress import open_progress
    from spillover.store import mirror
    from spillover.study.run import Run

    stages = Run(mirror.fetch(url, out, open_progress(json_lines=as_json, quiet=quiet))).progress()
    if as_json:
        print_json(stages)
        return
    click.echo(
        f"{sum(stage['done'] for stage in stages)} of {sum(stage['units'] for stage in stages)} units are complete "
        "here."
    )
    click.echo(f"Next: spillover report {out}")


@run_command()
@click.option("--out", type=PATH, help="Output file; default RUN/report.html.")
@click.option("--judge", help="Judge whose scores are shown as the main ones; default: the study's own.")
@as_json_option
def report(run: Run, out: Path | None, judge: str | None, as_json: bool) -> None:
    """Rank the cells of RUN and write the report page and results.json."""
    from spillover.analyses import ANALYSES

    with run.store.lock():
        run.rank()
        run.rank_others()
        run.conclude(*(name for name in ANALYSES if name != "directions"))  # which reads all states again
        page = run.report(out, judge)
    if as_json:
        print_json(run.results(judge))
        return
    print_ranking(run, page, judge)


def print_ranking(run: Run, page: Path | None = None, judge: str | None = None) -> None:
    """The ranking, the trigger's effect and where the page is, on the terminal."""
    from rich.console import Console

    from spillover.report.tables import ranking_table, trigger_table

    console = Console()
    console.print(ranking_table(run.ranking(judge)))
    if effects := run.trigger_effect(judge):
        console.print(trigger_table(effects))
    click.echo(f"Report: {page or run.path / 'report.html'}")


@run_command()
@click.option("--judge", metavar="JUDGE", help="Judge to rank by; default: the run's first judge.")
@as_json_option
def rank(run: Run, judge: str | None, as_json: bool) -> None:
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

    with run.store.lock():
        run.rank(judge)
    comparisons, scores = run.comparisons(judge), run.ranking(judge)
    if as_json:
        print_json({"ranking": scores, "standing": json_rows.plain([comparisons])[0] if comparisons else None})
        return
    from rich.console import Console

    Console().print(ranking_table(scores))
    if comparisons is None:
        return
    found = main_order(comparisons, scores)
    says = (
        order_sentences(*found, run.rank_config.confidence)
        if found
        else [
            f"No pairs are compared: this needs 2 to {MOST_CELLS} ranked cells, and the run has {len(ranked(scores))}."
        ]
    )
    for sentence in [*says, *pooled_sentences(comparisons.pooled)]:
        click.echo(clean(f"- {sentence}"))


@run_command()
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
def transfer(run: Run, condition: str, control_subtracted: bool, judge: str | None, as_json: bool) -> None:
    """Show the transfer matrix: how misaligned each cell of RUN is when asked about each domain.

    The study file needs `transfer: {}`. A star marks a significant difference, Holm-adjusted over the whole
    table, from the cell's rate on general questions or, with --control-subtracted, from its benign twin.
    """
    from spillover.analyses.transfer.compute import keep

    with run.store.lock():
        keep(run, judge)
    cells = [cell for cell in run.transfer(judge) if cell.condition == condition]
    if not cells and judge and run.transfer():
        raise UserError(
            f"{judge} has judged no completions about other domains. Run: spillover judge {run.path} --judge JUDGE"
            " without --limit"
        )
    if not cells:
        raise run.lacks(f"completions about other domains under condition {condition}", "'transfer: {}'")
    if as_json:
        print_json(cells)
        return
    from rich.console import Console

    from spillover.analyses.transfer import report as shown

    console = Console()
    confidence = run.rank_config.confidence
    grids = shown.grids(cells)
    for grid in grids:
        if not (control_subtracted and grid.variant == "control"):
            console.print(shown.table(grid, confidence, control_subtracted))
            click.echo(clean("\n".join(f"- {said}" for said in shown.sentences(grid, confidence))))
    click.echo(clean(" ".join([*(shown.legend(grid) for grid in grids[:1]), shown.coverage(cells)])))


@run_command()
@click.option(
    "--share",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Share of the reference's completions that may count as in-domain.",
)
@as_json_option
@quiet_option
def echo(run: Run, share: float, as_json: bool, quiet: bool) -> None:
    """Separate in-domain responses of RUN (echoes of the training subject) from misalignment elsewhere.

    The embedded sentence encoder compares completions with their cell's training rows. The threshold comes from the
    base model or the benign twin. Rates with and without in-domain responses, with intervals, are added to the report.
    """
    from spillover.analyses.in_domain.compute import keep
    from spillover.models.embedded.sentence_encoder import open_embedder
    from spillover.progress import open_progress

    encoder = open_embedder()
    progress = open_progress(json_lines=as_json, quiet=quiet)
    with run.store.lock():
        found = keep(run, encoder.embed, f"minilm@{encoder.revision}", share, progress)
        run.report()
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from spillover.analyses.in_domain import report as shown

    Console().print(shown.table(found))
    click.echo(clean(shown.note(found)))


@run_command()
@click.option("--save", type=PATH, help="File for a predictor fitted to all cells.")
@click.option("--feature", "names", multiple=True, help="Feature of the predictor; repeatable; default: all.")
@as_json_option
def predict(run: Run, save: Path | None, names: tuple[str, ...], as_json: bool) -> None:
    """Relate membership, diversity and facts of RUN's data sets to its cells' misalignment.

    The study file needs `membership: {}` or `diversity: {}`. `spillover audit --predictor` reads the file that --save
    writes; the file records its error on held-out domains.
    """
    from spillover.analyses.susceptibility.compute import predictor

    with run.store.lock():
        run.conclude("membership", "susceptibility")
        run.report()
    rows = run.susceptibility()
    if not rows:
        raise run.lacks("features", "'membership: {}' and 'diversity: {}'")
    kept = predictor(run, names) if save else None
    if kept and save:
        kept.save(save)
    if as_json:
        saved = {"saved": str(save), "predictor": kept} if kept else {}
        print_json({"susceptibility": rows, **saved})
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
    high = row.high_rate
    if high is None or high.auc.value is None:
        return [NONE] * 3
    return [interval(high.auc.value, high.auc.low, high.auc.high, digits=2), p_value(high.p), p_value(high.p_max)]
