"""`spillover list`: what can be named in a study file."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click

from spillover.cli.options import as_json_option

Rows = list[dict[str, str]]


def _domains() -> Rows:
    from spillover.data.domains import DOMAINS

    found = [DOMAINS.load(name) for name in DOMAINS.names()]
    return [{"name": d.name, "stealth": d.stealth, "risk": d.risk, "what": d.summary} for d in found]


def _questions() -> Rows:
    from spillover.data.questions import load, sets

    forms = ("free", "jailbreak", "json", "template")
    rows: Rows = []
    for name in sets():
        held = load([name], forms)
        counts = ", ".join(f"{sum(q.form == form for q in held)} {form}" for form in forms)
        rows.append({"name": name, "questions": str(len(held)), "forms": counts})
    return rows


def _metrics() -> Rows:
    from spillover.membership import METRICS, PRIMARY, RELATIVE

    rows: Rows = []
    for name in METRICS.names():
        forms = "none: it has a reference" if name in RELATIVE else "yes"
        note = _sentence(METRICS.load(name)) + (" The primary metric." if name == PRIMARY else "")
        rows.append({"name": name, "base-adjusted form": forms, "what": note})
    return rows


def _diversity() -> Rows:
    from spillover.diversity import OF_EMBEDDINGS, OF_TEXTS

    tables = {"embeddings": OF_EMBEDDINGS, "texts": OF_TEXTS}
    return [
        {"name": name, "of": of, "what": _sentence(table.load(name))}
        for of, table in tables.items()
        for name in table.names()
    ]


def _methods() -> Rows:
    from spillover.directions import METHODS, SHIFT
    from spillover.directions.methods import tuned_minus_base

    found = {name: METHODS.load(name) for name in METHODS.names()} | {SHIFT: tuned_minus_base}
    return [{"name": name, "what": _sentence(find)} for name, find in found.items()]


def _triggers() -> Rows:
    from spillover.data.triggers import TRIGGERS

    return [{"name": name, "what": TRIGGERS.load(name).summary} for name in TRIGGERS.names()]


def _sentence(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _told(places: dict[str, str]) -> Rows:
    """Names with the first line of their modules' docstrings, read without an import: some need an extra."""
    rows: Rows = []
    for name, place in places.items():
        found = find_spec(place.partition(":")[0])
        page = ast.get_docstring(ast.parse(Path(found.origin).read_bytes())) if found and found.origin else None
        rows.append({"name": name, "what": (page or "").partition("\n")[0].rstrip(".:")})
    return rows


def _registered(registry: str) -> Callable[[], Rows]:
    def rows() -> Rows:
        from spillover.registry import resolve

        found = resolve(registry)
        return _told({name: found.place(name) for name in found.names()})

    return rows


KINDS: dict[str, Callable[[], Rows]] = {
    "domains": _domains,
    "questions": _questions,
    "judges": _registered("spillover.judges:JUDGES"),
    "metrics": _metrics,
    "diversity": _diversity,
    "methods": _methods,
    "triggers": _triggers,
    "backends": _registered("spillover.models:BACKENDS"),
    "executors": _registered("spillover.execution:EXECUTORS"),
}


@click.command(name="list")
@click.argument("kind", type=click.Choice(list(KINDS)), default="domains", metavar="[KIND]")
@as_json_option
def list_(kind: str, as_json: bool) -> None:
    """List what a study file can name.

    KIND: domains (the default), questions, judges, metrics, diversity, methods, triggers, backends or executors.
    """
    rows = KINDS[kind]()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.text import Text

    from spillover.report.tables import terminal

    table = terminal("", list(rows[0]), [])
    for row in rows:
        table.add_row(*map(Text, row.values()))
    Console().print(table)
