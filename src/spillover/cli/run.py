"""`spillover run`: a study from its file to its report; the same command resumes where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option, domain_option, model_option, overrides, study_options
from spillover.records.stages import WORK_STAGES
from spillover.text import clean


@click.command()
@study_options
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; default: runs/NAME.")
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
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
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
        partial = {"failures": [failure.model_dump() for failure in failures]}
        click.echo(json.dumps(result.results() if result.ranking() else partial))
    elif result.ranking():
        from spillover.cli.show import print_ranking

        print_ranking(result)
    for failure in failures:
        click.echo(clean(f"failed: {failure.cell} at {failure.stage}: {failure.error}"), err=True)
    if failures:
        click.echo("Fix the cause and run the same command again: finished cells are kept.", err=True)
    return 1 if failures else 0
