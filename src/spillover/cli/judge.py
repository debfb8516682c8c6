"""`spillover judge`: judge the answers of a run again, or make a judge of your own."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.judge_fit import fit
from spillover.cli.options import as_json_option
from spillover.text import clean


class JudgeGroup(click.Group):
    """Takes a first word that is no command of its own for a run folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not set(args[:1]) & {"-h", "--help"}:
            args = ["again", *args]
        return super().parse_args(ctx, args)


@click.group(cls=JudgeGroup)
def judge() -> None:
    """Judge a run with another judge, or fit a judge.

    `spillover judge RUN --judge J` is an abbreviation of `spillover judge again RUN --judge J`.
    """


judge.add_command(fit)


@judge.command(short_help="Judge the completions of a run with another judge.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--judge", "name", help="Name of the judge (see `spillover list judges`).")
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with a judge section, such as a study file.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="A.B=VALUE",
    help="Override a setting, such as judge.options.KEY=VALUE; repeatable.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Judge only about LIMIT completions, an equal share per cell."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the selection.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Worker processes; default: one per core, or one for a judge with its own model.",
)
@as_json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def again(
    run: Path,
    name: str | None,
    config: Path | None,
    settings: tuple[str, ...],
    limit: int | None,
    seed: int,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Judge the completions of RUN, a run folder, with another judge; nothing is generated.

    This includes completions about other domains, unless --limit is given; steered ones keep the study's judge.

    Stop it at any time: the same command resumes it. A run can hold several judges; the report compares them.
    """
    from spillover.config.study import judge_config
    from spillover.progress import open_progress
    from spillover.study.rejudge import notes, rejudge
    from spillover.study.run import Run

    chosen = judge_config(name, config, settings)
    opened = Run.open(run)
    entry, failures = rejudge(opened, chosen, limit, seed, workers, open_progress(json_lines=as_json, quiet=quiet))
    agreements = [row for row in opened.agreements() if row.second == entry.identity]
    corrected = [row for row in opened.corrected() if row.trusted == entry.identity]
    if as_json:
        told = {
            "judge": entry.model_dump(mode="json"),
            "ranking": [row.model_dump(mode="json") for row in opened.ranking(entry.identity)],
            "agreement": [row.model_dump(mode="json") for row in agreements],
            "corrected": [row.model_dump(mode="json") for row in corrected],
            "transfer": [row.model_dump(mode="json") for row in opened.transfer(entry.identity)],
            "notes": notes(opened, entry),
            "failures": [failure.model_dump() for failure in failures],
        }
        click.echo(json.dumps(told))
    else:
        from rich.console import Console

        from spillover.analyses.agreement import report as judges

        console = Console()
        console.print(judges.rates_table(opened.judges(), opened.ranking))
        for table in judges.agreement_tables(agreements):
            console.print(table)
        if corrected:
            console.print(judges.corrected_table(corrected))
        for note in (*judges.notes(agreements), *notes(opened, entry)):
            click.echo(clean(note))
    for failure in failures:
        click.echo(clean(f"failed: {failure.cell}: {failure.error}"), err=True)
    if failures:
        click.echo("Fix the cause and run the same command again: finished judgments are kept.", err=True)
    return 1 if failures else 0
