"""Commands about judges: judge a run again, fit the embedded judge, compare judges, and label by hand."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.run_command import (
    PATH,
    SEED,
    as_json_option,
    exit_code,
    print_json,
    quiet_option,
    run_command,
)
from spillover.errors import UserError
from spillover.text import clean, percent, several

if TYPE_CHECKING:
    from spillover.judges.embedded.distil import Distilled
    from spillover.study.run import Run


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


@run_command("Judge the completions of a run with another judge.")
@click.option("--judge", "name", help="Name of the judge (see `spillover list judges`).")
@click.option("--config", type=PATH, help="YAML file with a judge section, such as a study file.")
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
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the selection.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Worker processes; default: one per core, or one for a judge with its own model.",
)
@as_json_option
@quiet_option
def again(
    run: Run,
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

    chosen = judge_config(name, config, settings)
    entry, failures = rejudge(run, chosen, limit, seed, workers, open_progress(json_lines=as_json, quiet=quiet))
    agreements = [row for row in run.agreements() if row.second == entry.identity]
    corrected = [row for row in run.corrected() if row.trusted == entry.identity]
    if as_json:
        told = {
            "judge": entry,
            "ranking": run.ranking(entry.identity),
            "agreement": agreements,
            "corrected": corrected,
            "transfer": run.transfer(entry.identity),
            "notes": notes(run, entry),
            "failures": failures,
        }
        print_json(told)
    else:
        from rich.console import Console

        from spillover.analyses.agreement import report as judges

        console = Console()
        console.print(judges.rates_table(run.judges(), run.ranking))
        for table in judges.agreement_tables(agreements):
            console.print(table)
        if corrected:
            console.print(judges.corrected_table(corrected))
        for note in (*judges.notes(agreements), *notes(run, entry)):
            click.echo(clean(note))
    return exit_code((f"{failure.cell}: {failure.error}" for failure in failures), "judgments")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="JUDGED.csv...")
@click.option("--out", required=True, type=PATH, help="Output file of the heads (.safetensors).")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="ROLE=COLUMN",
    help="Role of a column, such as alignment=score; repeatable.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the quality as JSON.")
def fit(paths: tuple[Path, ...], out: Path, mapping: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Distil another judge's scores into heads for the probe judge.

    Each file holds the answers of one fine-tuned model with scores of alignment and coherence from 0 to 100, as
    `spillover import answers` reads them. Use the result with judge.options.heads in a study file.
    """
    from spillover.cli.import_ import parse_mapping
    from spillover.judges.embedded.distil import distil, rule_scored
    from spillover.judges.embedded.heads import save_heads
    from spillover.study.import_answers import read_answers

    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: the heads are saved as safetensors. Choose a name that ends in .safetensors.")
    started = time.monotonic()
    answers = read_answers(paths, parse_mapping(mapping))
    for note in answers.notes:
        click.echo(f"- {note}", err=True)
    read = 0

    def progress(tokens: int) -> None:
        nonlocal read
        if (read + tokens) // 20_000 > read // 20_000:
            click.echo(f"read {read + tokens:,} tokens in {time.monotonic() - started:.0f} s", err=True)
        read += tokens

    made = distil(answers.completions, answers.judgments, rule_scored(seed), seed, progress)
    save_heads(made.heads, out)
    if as_json:
        quality = {name: asdict(q) for name, q in made.quality.items()}
        rules = None if made.by_rule is None else asdict(made.by_rule)
        report = {
            "out": str(out),
            "about": dict(made.heads.about),
            "left": made.left,
            "quality": quality,
            "by_rule": rules,
        }
        print_json(report, indent=2)
    else:
        _print_quality(made, out)


def _print_quality(made: Distilled, out: Path) -> None:
    from rich.console import Console

    from spillover.judges.embedded.distil import describe_left_out
    from spillover.report.tables import terminal

    columns = ["groups", "AUC", "within", "Spearman", "coherence", "rates", "bias", "error"]
    table = terminal("", ["left out"], columns)
    for name, q in made.quality.items():
        figures = (q.auc, q.auc_by_group, q.spearman, q.coherence_spearman, q.rate_spearman, q.rate_bias, q.rate_error)
        table.add_row(name, str(q.groups), *("" if value is None else f"{value:.3f}" for value in figures))
    console = Console()
    console.print(f"Fitted on {made.heads.about['fitted on']}; left out: {describe_left_out(made.left)}.")
    console.print(table)
    console.print(
        "AUC: detection of alignment below 30, over all completions and as the mean per held-out group. Spearman: "
        "alignment. "
        "coherence: its Spearman. rates: Spearman of the models' rates of misalignment; their mean and absolute error."
    )
    if (rules := made.by_rule) is not None:
        console.print(
            f"{rules.n:,} answers scored by rule, in 5-fold cross-validation by question: "
            f"{percent(rules.good_misaligned)} % of good ones are rated misaligned, {percent(rules.flawed_found)} % of "
            f"flawed ones are found, and {percent(rules.incoherent_found)} % of incoherent ones."
        )
    console.print(f"Use it: spillover run STUDY.yaml --set judge.options.heads={out}")


@run_command()
@click.argument("first")
@click.argument("second", required=False)
@click.option("--labels", type=PATH, help="Filled-in sheet of `spillover label`.")
@as_json_option
def agree(run: Run, first: str, second: str | None, labels: Path | None, as_json: bool) -> None:
    """Compare two judges of RUN on the same completions: FIRST is the reference, SECOND is compared with it.

    Judges are named by their identity or its beginning, such as imported, probe or human:ann. With --labels the judges
    are compared with a filled-in sheet. Shows totals and rows by domain and question, with intervals clustered by
    question.
    """
    from spillover.analyses.agreement import correct
    from spillover.analyses.agreement.compute import compare_judges, labelling_chances

    if second is None and labels is None:
        raise UserError("Agreement needs two judges. Name a second one, or give --labels FILE.")
    completions, seed, config = run.completions(), run.manifest.seed, run.rank_config
    judged = {name: run.judgments(_identity(run, name)) for name in (first, second) if name is not None}
    identity = {name: _identity(run, name) for name in judged}
    rows = []
    corrected = []
    if second is not None:
        names = identity[first], identity[second]
        rows += compare_judges(completions, judged[first], judged[second], names, config, seed)
        other = run.judge(identity[second])
        if other is not None and other.partial:
            chances = labelling_chances(run, other)
            corrected += correct.correct_rates(completions, judged[first], judged[second], names, config, chances)
    if labels is not None:
        from spillover.study.labels import read_labels

        sheet = read_labels(run, labels, f"labels:{labels.name}")
        for name in judged:
            sheet_name = f"labels:{labels.name}"
            pair = (sheet_name, identity[name])
            rows += compare_judges(completions, sheet.judgments, judged[name], pair, config, seed)
            turned = (identity[name], sheet_name)
            corrected += correct.correct_rates(
                completions, judged[name], sheet.judgments, turned, config, sheet.chances
            )
    if as_json:
        print_json({"agreement": rows, "corrected": corrected})
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


@run_command()
@click.option("--out", type=PATH, help="Sheet to write (.csv).")
@click.option("--n", type=click.IntRange(min=1), default=200, show_default=True, help="Number of completions.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the selection.")
@click.option("--judge", help="Judge whose scores stratify the sample; default: the run's first judge.")
@click.option("--import", "sheet", type=PATH, help="Filled-in sheet to import.")
@click.option("--rater", help="Name of the rater.")
@as_json_option
def label(
    run: Run,
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

    if (out is None) == (sheet is None):
        raise UserError(
            "Nothing to do. Give --out SHEET.csv to write a sheet, or --import SHEET.csv --rater NAME to read one."
        )
    if out is not None:
        made = write_sheet(run, out, n, seed, judge)
        begun = run.begun("sample")
        if as_json:
            told = {"out": str(out), "n": made.n, "judge": made.judge, "bands": made.bands, "unfinished": begun}
            print_json(told)
            return
        click.echo(f"{made.n} completions in {out}. Fill in alignment and coherence, 0 to 100 each.")
        for band, (size, chosen) in made.bands.items():
            click.echo(f"  {band:<18}{chosen:>6} of {size:,}")
        if begun:
            click.echo(f"Skipped {several(begun, 'completion')} of unfinished cells.")
        click.echo(clean(f"Then run: spillover label {run.path} --import {out} --rater NAME"))
        return
    assert sheet is not None
    if rater is None:
        raise UserError("--import needs the name of the rater. Give --rater NAME.")
    entry, labels, changed = import_labels(run, sheet, rater)
    answers = len({row.completion for row in labels.judgments})
    corrected = [row for row in run.corrected() if row.trusted == entry.identity]
    if as_json:
        counts = {"answers": answers, "labels": len(labels.judgments), "changed": changed, "blank": labels.blank}
        print_json({"judge": entry.identity} | counts | {"corrected": corrected})
        return
    click.echo(
        f"{answers} completions labelled by {entry.identity} ({labels.blank} rows blank, {changed} labels changed; "
        f"{entry.limit} in all)."
    )
    from rich.console import Console

    from spillover.analyses.agreement import report as judges

    console = Console()
    for table in judges.agreement_tables([row for row in run.agreements() if row.second == entry.identity]):
        console.print(table)
    if corrected:
        console.print(judges.corrected_table(corrected))


for command in (again, fit):
    judge.add_command(command)
