"""`spillover plan`: cells, tokens, minutes, memory and dollars of each stage, before anything runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from spillover.cli.options import as_json_option, overrides, study_options
from spillover.planning.gpu_fit import sentence
from spillover.planning.gpus import named


@click.command()
@study_options
@click.option("--simulate", is_flag=True, help="Schedule every unit on a cluster that need not be there.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, help="Machines to simulate.")
@click.option(
    "--gpus", type=click.IntRange(min=0), default=8, help="Cards of each; 0: one CPU worker a core of this machine."
)
@click.option("--failures", type=click.FloatRange(min=0), default=0.0, help="Expected of one machine a day.")
@click.option("--measured", type=click.Path(path_type=Path), help="A run whose seconds stand for estimates.")
@click.option("--price", type=click.FloatRange(min=0), help="Dollars of one worker an hour.")
@click.option("--card", metavar="NAME", help="Plan for a graphics card that is not here, such as 'A100 80GB'.")
@as_json_option
def plan(
    study: Path,
    settings: tuple[str, ...],
    seed: int | None,
    limit: int | None,
    simulate: bool,
    nodes: int,
    gpus: int,
    failures: float,
    measured: Path | None,
    price: float | None,
    card: str | None,
    as_json: bool,
) -> None:
    """Say what STUDY will cost, and whether its models fit a card. Nothing is loaded and nothing is written."""
    from spillover.study.study import Study

    loaded = Study.load(study, overrides(settings, seed, limit))
    chosen = None if card is None else named(card)
    if simulate:
        from spillover.cli.plan_simulate import show

        show(loaded, nodes, gpus, chosen or named("H100"), failures, measured, price, as_json)
        return
    stages = loaded.plan(chosen)
    if as_json:
        click.echo(json.dumps([asdict(stage) for stage in stages], indent=2))
        return
    from rich.console import Console

    from spillover.report.tables import terminal
    from spillover.text import one_line, several

    who = f"{several(loaded.population(), 'model')}, {several(loaded.workers, 'worker')}"
    names = ["cells", "units", "tokens", "minutes", "GiB", "dollars"]
    table = terminal(f"{one_line(loaded.config.name, 60)}: {who}", ["stage"], names)
    for stage in stages:
        numbers = (f"{stage.cells:,}", f"{stage.units:,}", f"{stage.tokens:,}", f"{stage.minutes:,.1f}")
        table.add_row(stage.stage, *numbers, f"{stage.memory_gib:.1f}", f"{stage.dollars:.2f}")
    table.add_section()
    minutes = sum(stage.minutes for stage in stages)
    memory = max(stage.memory_gib for stage in stages)
    table.add_row("all", "", "", "", f"{minutes:,.1f}", f"{memory:.1f}", f"{sum(s.dollars for s in stages):.2f}")
    Console().print(table)
    for found in loaded.fits(chosen):
        click.echo(sentence(found))
    click.echo(
        f"Minutes and memory are estimates for {chosen.name if chosen else 'this machine'} from stated speeds; see "
        "docs/how-to/plan-a-study.md."
    )
