"""`spillover steer`: what a run's directions do to its models, compared with random directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spillover.cli.options import as_json_option
from spillover.text import clean

if TYPE_CHECKING:
    from spillover.config.study import SteerConfig
    from spillover.study.run import Run

OPERATIONS = ("add", "ablate", "clamp")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--direction", "directions", multiple=True, help="Domain whose direction is used; repeatable. Default: all."
)
@click.option(
    "--onto", multiple=True, help="Model to steer: base, or the domain of a fine-tune; repeatable. Default: all."
)
@click.option("--operation", "operations", multiple=True, type=click.Choice(OPERATIONS),
              help="Operation. Default: add to the base model, ablate in fine-tunes.")  # fmt: skip
@click.option("--layers", help="Layers for add and clamp, such as 10,15,20. Default: at 2/5 and 3/5 of the depth.")
@click.option(
    "--coefficients", help="Coefficients for add and clamp, such as 0.1,0.2,-0.2, in mean norms of the stream."
)
@click.option("--asked", multiple=True, type=click.Choice(["general", "heldout"]),
              help="Questions: the study's (general), or the held-out ones of every domain; repeatable.")  # fmt: skip
@click.option("--n", type=click.IntRange(min=1), help="Completions per question.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Maximum new tokens per completion.")
@click.option("--controls", type=click.IntRange(min=0), help="Number of random directions.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first LIMIT questions, for a quick look.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes; default: as cores and memory allow.")
@click.option("--plan", "only_plan", is_flag=True, help="Print the estimated cost and stop.")
@as_json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def steer(
    run: Path,
    directions: tuple[str, ...],
    onto: tuple[str, ...],
    operations: tuple[str, ...],
    layers: str | None,
    coefficients: str | None,
    asked: tuple[str, ...],
    n: int | None,
    max_tokens: int | None,
    controls: int | None,
    limit: int | None,
    workers: int | None,
    only_plan: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Steer the models of RUN, a run folder, with its directions, and judge the completions.

    Options that are not given come from the study's steer section. Stop it at any time: the same command resumes it.
    """
    from spillover.progress import open_progress
    from spillover.study.run import Run

    given = {
        "directions": directions or None,
        "onto": onto or None,
        "base": operations or None,
        "tuned": operations or None,
        "layers": _numbers(layers, "--layers"),
        "coefficients": _numbers(coefficients, "--coefficients"),
        "asked": asked or None,
        "n": n,
        "max_tokens": max_tokens,
        "controls": controls,
    }
    opened = Run.open(run)
    wanted = _wanted(opened, {name: value for name, value in given.items() if value is not None})
    planned = opened.plan_steering(wanted, limit, workers)
    line = f"{planned.units:,} completions of {planned.cells:,} models, {planned.tokens:,} tokens, "
    line += f"{planned.minutes:.1f} min"
    if planned.dollars:
        line += f", {planned.dollars:.2f} dollars"
    if only_plan:
        from dataclasses import asdict

        click.echo(json.dumps(asdict(planned)) if as_json else line)
        return 0
    if not quiet:
        click.echo(line, err=True)
    failures = opened.steer(wanted, limit, workers=workers, progress=open_progress(json_lines=as_json, quiet=quiet))
    _tell(opened, as_json)
    for failure in failures:
        click.echo(clean(f"failed: {failure.cell}: {failure.error}"), err=True)
    if failures:
        click.echo("Fix the cause and run the same command again: finished completions are kept.", err=True)
    return 1 if failures else 0


def _wanted(run: Run, given: dict[str, Any]) -> SteerConfig:
    """The study's section with what this call says in its place."""
    from pydantic import ValidationError

    from spillover.config.study import SteerConfig
    from spillover.config.validation import explain
    from spillover.errors import UserError

    asked = (run.config.steer if run.config else None) or SteerConfig()
    try:
        return SteerConfig.model_validate(asked.model_dump() | given)
    except ValidationError as error:
        raise UserError("\n".join(f"steer.{line}" for line in explain(error, SteerConfig))) from None


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a comma-separated list of numbers, such as 0.1,0.2.", param_hint=option
        ) from None


def _tell(run: Run, as_json: bool) -> None:
    points, effects, squares = run.steering_points(), run.steering_effects(), run.steering_squares()
    from spillover.analyses.steering import matrix_report as steering_matrix
    from spillover.analyses.steering import report as steering

    if as_json:
        click.echo(json.dumps(steering.to_json(points, effects, squares)))
        return
    from rich.console import Console

    console = Console()
    if effects:
        console.print(steering.table(effects))
    for found in steering_matrix.tables(squares):
        console.print(found)
    for sentence in (*steering.words(effects, points), *steering_matrix.words(squares)):
        click.echo(clean(sentence))
    if squares:
        click.echo(clean(steering_matrix.legend(squares)))
