"""`spillover direction`: list the directions of a run, or save one for spillover or another tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spillover.cli.options import as_json_option

if TYPE_CHECKING:
    from spillover.directions.direction import Direction
    from spillover.records.directions import DirectionAUC, DirectionSummary, Reader, Source


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--domain", help="Domain of the direction; default: list all.")
@click.option("--method", help="Method (see `spillover list methods`); default mean_difference.")
@click.option("--source", type=click.Choice(["judged", "pairs"]), help="Source of the labels; default judged.")
@click.option("--reader", type=click.Choice(["tuned", "base"]), help="Model whose activations are used; default tuned.")
@click.option("--layer", type=click.IntRange(min=0), help="Layer (after this block); default: the layer of the tables.")
@click.option("--cell", help="Name of the cell, if a domain has several.")
@click.option("--save", type=click.Path(path_type=Path), help="Save the direction as safetensors.")
@click.option(
    "--gguf", type=click.Path(path_type=Path), help="Save as a control vector for llama.cpp and repeng (GGUF)."
)
@click.option("--steered", type=click.Path(path_type=Path), help="Save as NAME.pt for lm-evaluation-harness.")
@as_json_option
def direction(
    run: Path,
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
    from spillover.errors import UserError
    from spillover.study.run import Run

    opened = Run.open(run)
    if not opened.directions().summaries:
        with opened.store.lock():
            opened.conclude("directions")
    found = opened.directions()
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
            raise opened.lacks("such directions", "'directions: {}'")
        _list(rows, found.aucs, as_json)
        return
    name = domain.replace("-", "_")
    one = opened.direction(name, method or "mean_difference", layer, source or "judged", reader or "tuned", cell)
    written = _written(one, save, gguf, steered)
    facts = _facts(one) | {"written": written}
    if as_json:
        click.echo(json.dumps(facts | {"vector": [float(x) for x in one.vector_D]}))
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
        click.echo(json.dumps([row.model_dump(mode="json") for row in rows]))
        return
    from rich.console import Console
    from rich.text import Text

    from spillover.report.labels import Labels
    from spillover.report.tables import terminal
    from spillover.text import NONE, interval, number, p_value

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
