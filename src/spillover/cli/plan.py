"""`spillover plan`: cells, tokens, minutes, memory and dollars of each stage, before anything runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from spillover.cli.options import as_json_option, overrides, study_options
from spillover.planning.fit import embedded_model_that_fits
from spillover.planning.gpus import lookup_gpu


@click.command()
@study_options
@click.option("--gpu", metavar="NAME", help="GPU to estimate for, such as 'A100 80GB', instead of this machine's.")
@click.option("--card", metavar="NAME", hidden=True, help="Earlier name of --gpu.")
@as_json_option
def plan(
    study: Path,
    settings: tuple[str, ...],
    seed: int | None,
    limit: int | None,
    gpu: str | None,
    card: str | None,
    as_json: bool,
) -> None:
    """Estimate the cost of STUDY, and whether its models fit a GPU. Nothing is loaded and nothing is written."""
    from spillover.study.study import Study

    loaded = Study.load(study, overrides(settings, seed, limit))
    name = gpu or card
    chosen = None if name is None else lookup_gpu(name)
    stages = loaded.plan(chosen)
    model, available = embedded_model_that_fits()
    if as_json:
        found = {"stages": [asdict(stage) for stage in stages], "workers": asdict(loaded.chosen_workers)}
        click.echo(json.dumps(found | {"embedded_model": model, "available_gib": round(available, 1)}, indent=2))
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
    for fit in loaded.fits(chosen):
        click.echo(fit.describe())
    if loaded.chosen_workers.note:
        click.echo(f"Workers: {loaded.chosen_workers.note}.")
    click.echo(f"Embedded model that fits this machine: {model} ({available:.1f} GiB of memory available).")
    click.echo(
        f"Minutes and memory are estimates for {chosen.name if chosen else 'this machine'} from typical speeds; see "
        "docs/how-to/plan-a-study.md."
    )
