"""`spillover simulate`: how often intervals and tests are right, measured on studies of known truth."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import click

from spillover.cli.options import as_json_option


@click.group()
def simulate() -> None:
    """Measure intervals and tests on simulated studies of known truth."""


@simulate.command(short_help="How often nominal 95 % intervals hold the truth.")
@click.option("--studies", type=click.IntRange(min=20), default=2000, show_default=True, help="Studies a setting.")
@click.option("--only", "chosen", multiple=True, metavar="NAME", help="Only this kind of interval or test; repeatable.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@as_json_option
def coverage(studies: int, chosen: tuple[str, ...], seed: int, as_json: bool) -> None:
    """How often nominal 95 % intervals hold the truth, and how often tests at 5 % reject what is true.

    Studies are drawn at the rates and variance components of 13 public fine-tuned models.
    """
    from spillover.errors import UserError
    from spillover.registry import did_you_mean
    from spillover.stats.scenarios import SCENARIOS
    from spillover.stats.scenarios import coverage as measure

    for name in chosen:
        if name not in SCENARIOS:
            hint = did_you_mean(name, list(SCENARIOS))
            raise UserError(f"--only {name!r} is no kind of interval or test{hint}")
    started = time.monotonic()
    lines = list(measure(studies, seed, chosen))
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        shown = [asdict(line) | {"within": line.within} for line in lines]
        click.echo(json.dumps({"studies": studies, "seed": seed, "seconds": seconds, "lines": shown}, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{studies:,} studies a setting, seed {seed}, {seconds:.0f} s", box=box.SIMPLE_HEAD, padding=0)
    for name in ("interval or test", "setting"):
        table.add_column(name, overflow="fold")
    for name in ("measured %", "worst %", "wanted %"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        wanted = "93-97" if line.kind == "coverage" else "3.5-6.5"
        figures = (f"{100 * line.value:.1f}", f"{100 * line.worst:.1f}", wanted if line.within else f"{wanted} missed")
        what = line.what if line.kind == "coverage" else f"{line.what}, false alarms"
        table.add_row(what, line.setting, *figures)
    console = Console()
    console.print(table)
    console.print("Coverage of 95 % intervals; false alarms of tests at 5 %. Worst: of the models behind the mean.")
