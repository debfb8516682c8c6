"""`spillover run` and `spillover plan`: a study from its file to its report, and what that will cost."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.run_command import (
    PATH,
    as_json_option,
    domain_option,
    exit_code,
    model_option,
    overrides,
    print_json,
    quiet_option,
    study_options,
)
from spillover.planning.fit import embedded_model_that_fits
from spillover.planning.gpus import lookup_gpu
from spillover.records.stages import WORK_STAGES
from spillover.text import one_line, several


@click.command()
@study_options
@click.option("--out", type=PATH, help="Run folder; default: runs/NAME.")
@click.option(
    "--stage",
    "stages",
    multiple=True,
    help=f"Run only this stage ({', '.join(WORK_STAGES)}, rank, steer); repeatable.",
)
@domain_option
@model_option
@click.option("--executor", help="Executor; overrides the study's (see `spillover list executors`).")
@click.option("--address", help="Ray cluster: host:port or auto. Default: RAY_ADDRESS, otherwise this machine only.")
@click.option(
    "--mirror",
    metavar="URL",
    help="A copy of finished work at a URL, such as s3://bucket/runs/x: finished units are taken from there, and "
    "copied there. Other machines resume from it.",
)
@as_json_option
@quiet_option
def run(
    study: Path,
    settings: tuple[str, ...],
    seed: int | None,
    limit: int | None,
    out: Path | None,
    stages: tuple[str, ...],
    domains: tuple[str, ...],
    models: tuple[str, ...],
    executor: str | None,
    address: str | None,
    mirror: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run STUDY, a YAML file. Stop it at any time: the same command resumes it."""
    from spillover.progress import open_progress
    from spillover.study.study import Study

    where = (("executor", executor), ("cluster.address", address))
    chosen = tuple(f"{key}={json.dumps(value)}" for key, value in where if value is not None)
    loaded = Study.load(study, (*overrides(settings, seed, limit), *chosen))
    if mirror is not None:
        from spillover.study.mirrored import MirroredStudy

        loaded = MirroredStudy(loaded.config, mirror)
    out = out or Path("runs") / loaded.config.name
    progress = open_progress(json_lines=as_json, quiet=quiet)
    names = [name.replace("-", "_") for name in domains]
    result = loaded.run(out, stages, names, models, progress)
    failures = result.manifest.failures
    if as_json:
        print_json(result.results() if result.ranking() else {"failures": failures})
    elif result.ranking():
        from spillover.cli.results import print_ranking

        print_ranking(result)
    return exit_code((f"{failure.cell} at {failure.stage}: {failure.error}" for failure in failures), "cells")


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
        found = {"stages": stages, "workers": loaded.chosen_workers}
        print_json(found | {"embedded_model": model, "available_gib": round(available, 1)}, indent=2)
        return
    from rich.console import Console

    from spillover.report.tables import terminal

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
