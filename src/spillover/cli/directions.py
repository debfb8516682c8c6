"""`spillover direction` and `spillover steer`: the directions of a run, and what they do to its models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spillover.cli.run_command import (
    PATH,
    as_json_option,
    exit_code,
    print_json,
    quiet_option,
    run_command,
)
from spillover.errors import UserError
from spillover.text import NONE, clean, interval, number, p_value

if TYPE_CHECKING:
    from spillover.config.study import SteerConfig
    from spillover.directions.direction import Direction
    from spillover.records.directions import DirectionAUC, DirectionSummary, Reader, Source
    from spillover.study.run import Run


@run_command()
@click.option("--domain", help="Domain of the direction; default: list all.")
@click.option("--method", help="Method (see `spillover list methods`); default mean_difference.")
@click.option("--source", type=click.Choice(["judged", "pairs"]), help="Source of the labels; default judged.")
@click.option("--reader", type=click.Choice(["tuned", "base"]), help="Model whose activations are used; default tuned.")
@click.option("--layer", type=click.IntRange(min=0), help="Layer (after this block); default: the layer of the tables.")
@click.option("--cell", help="Name of the cell, if a domain has several.")
@click.option("--save", type=PATH, help="Save the direction as safetensors.")
@click.option("--gguf", type=PATH, help="Save as a control vector for llama.cpp and repeng (GGUF).")
@click.option("--steered", type=PATH, help="Save as NAME.pt for lm-evaluation-harness.")
@as_json_option
def direction(
    run: Run,
    domain: str | None,
    method: str | None,
    source: Source | None,
    reader: Reader | None,
    layer: int | None,
    cell: str | None,
    save: Path | None,
    gguf: Path | None,
    steered: Path | None,
    as_json: bool,
) -> None:
    """List the directions of RUN, or save one of them.

    The study file needs `directions: {}`. A direction points from aligned to misaligned; the unit of a coefficient is
    the mean norm of the residual stream at its layer. Directions are computed from saved activations on first use.
    """

    if not run.directions().summaries:
        with run.store.lock():
            run.conclude("directions")
    found = run.directions()
    if domain is None:
        if save or gguf or steered:
            raise UserError("No direction is selected. Name one with --domain.")
        rows = [
            row
            for row in found.summaries
            if row.method == (method or (row.method if as_json else "mean_difference"))
            and row.source == (source or row.source)
            and row.reader == (reader or row.reader)
        ]
        if not rows:
            raise run.lacks("such directions", "'directions: {}'")
        _list(rows, found.aucs, as_json)
        return
    name = domain.replace("-", "_")
    one = run.direction(name, method or "mean_difference", layer, source or "judged", reader or "tuned", cell)
    written = _written(one, save, gguf, steered)
    facts = _facts(one) | {"written": written}
    if as_json:
        print_json(facts | {"vector": [float(x) for x in one.vector_D]})
        return
    for key, value in facts.items():
        if value:
            shown = (
                f"{value:.4g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else value
            )
            click.echo(f"{key:<12} {shown}")


def _facts(one: Direction) -> dict[str, Any]:
    return {
        **one.origin.model_dump(exclude={"texts"}),
        "layer": one.layer,
        "dimensions": len(one.vector_D),
        "norm": one.norm,
        "stream_norm": one.stream_norm,
        "misaligned": one.misaligned,
        "aligned": one.aligned,
        "questions": one.questions,
    }


def _written(one: Direction, save: Path | None, gguf: Path | None, steered: Path | None) -> list[str]:
    from spillover.directions.files import save as write_file
    from spillover.directions.files import write_gguf, write_steered

    files = [
        *([write_file(one, save)] if save else []),
        *([write_gguf([one], gguf)] if gguf else []),
        *([write_steered(one, steered)] if steered else []),
    ]
    return [str(file) for file in files]


def _list(rows: list[DirectionSummary], aucs: tuple[DirectionAUC, ...], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.text import Text

    from spillover.report.labels import Labels
    from spillover.report.tables import terminal

    labels = Labels(row.cell for row in rows)
    own = {
        (row.cell.name, row.source, row.reader, row.method): interval(row.auc, row.low, row.high, digits=2)
        for row in aucs
        if row.cell == row.onto
    }
    figures = ["answers", "split-half", "p", "AUC, own"]
    table = terminal(f"Directions by {rows[0].method}", ["domain", "labels", "states"], figures)
    for row in rows:
        table.add_row(
            *(Text(part) for part in (labels.of(row.cell), row.source, row.reader)),
            f"{row.misaligned}/{row.aligned}",
            number(row.split_half, 2),
            p_value(row.p),
            own.get((row.cell.name, row.source, row.reader, row.method), NONE),
        )
    console = Console()
    console.print(table)
    console.print(
        "From aligned to misaligned. Answers: misaligned/aligned, to questions that have both. Split-half: cosine of "
        "the directions of two halves of the questions. AUC: on the cell's own answers, with the scored question's "
        "theme "
        "held out; 0.5 = chance."
    )


OPERATIONS = ("add", "ablate", "clamp")


@run_command()
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
@quiet_option
def steer(
    run: Run,
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
    wanted = _wanted(run, {name: value for name, value in given.items() if value is not None})
    planned = run.plan_steering(wanted, limit, workers)
    line = f"{planned.units:,} completions of {planned.cells:,} models, {planned.tokens:,} tokens, "
    line += f"{planned.minutes:.1f} min"
    if planned.dollars:
        line += f", {planned.dollars:.2f} dollars"
    if only_plan:
        if as_json:
            print_json(planned)
        else:
            click.echo(line)
        return 0
    if not quiet:
        click.echo(line, err=True)
    failures = run.steer(wanted, limit, workers=workers, progress=open_progress(json_lines=as_json, quiet=quiet))
    _tell(run, as_json)
    return exit_code((f"{failure.cell}: {failure.error}" for failure in failures), "completions")


def _wanted(run: Run, given: dict[str, Any]) -> SteerConfig:
    """The study's section with what this call says in its place."""
    from pydantic import ValidationError

    from spillover.config.study import SteerConfig
    from spillover.config.validation import explain

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
        print_json(steering.to_json(points, effects, squares))
        return
    from rich.console import Console

    console = Console()
    if effects:
        console.print(steering.table(effects))
    for found in steering_matrix.tables(squares):
        console.print(found)
    for sentence in (*steering.sentences(effects, points), *steering_matrix.sentences(squares)):
        click.echo(clean(sentence))
    if squares:
        click.echo(clean(steering_matrix.legend(squares)))
