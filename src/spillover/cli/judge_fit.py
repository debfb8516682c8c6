"""`spillover judge fit`: fit the heads of the embedded judge."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spillover.judges.embedded.distil import Distilled


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="JUDGED.csv...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output file of the heads (.safetensors).")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="ROLE=COLUMN",
    help="Role of a column, such as alignment=score; repeatable.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the quality as JSON.")
def fit(paths: tuple[Path, ...], out: Path, mapping: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Distil another judge's scores into heads for the probe judge.

    Each file holds the answers of one fine-tuned model with scores of alignment and coherence from 0 to 100, as
    `spillover import answers` reads them. Use the result with judge.options.heads in a study file.
    """
    from spillover.cli.import_ import parse_mapping
    from spillover.errors import UserError
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
        click.echo(json.dumps(report, indent=2))
    else:
        _print(made, out)


def _print(made: Distilled, out: Path) -> None:
    from rich.console import Console

    from spillover.judges.embedded.distil import reasons
    from spillover.report.tables import terminal
    from spillover.text import percent

    columns = ["groups", "AUC", "within", "Spearman", "coherence", "rates", "bias", "error"]
    table = terminal("", ["left out"], columns)
    for name, q in made.quality.items():
        figures = (q.auc, q.auc_by_group, q.spearman, q.coherence_spearman, q.rate_spearman, q.rate_bias, q.rate_error)
        table.add_row(name, str(q.groups), *("" if value is None else f"{value:.3f}" for value in figures))
    console = Console()
    console.print(f"Fitted on {made.heads.about['fitted on']}; left out: {reasons(made.left)}.")
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
