"""`spillover list`: what can be named in a study file."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from spillover.cli.options import as_json_option

Rows = list[dict[str, str]]


def _domains() -> Rows:
    from spillover.domains import DOMAINS

    found = [DOMAINS.load(name) for name in DOMAINS.names()]
    return [{"name": d.name, "stealth": d.stealth, "risk": d.risk, "what": d.summary} for d in found]


def _questions() -> Rows:
    from spillover.questions import load, sets

    forms = ("free", "jailbreak", "json", "template")
    rows: Rows = []
    for name in sets():
        held = load([name], forms)
        counts = ", ".join(f"{sum(q.form == form for q in held)} {form}" for form in forms)
        rows.append({"name": name, "questions": str(len(held)), "forms": counts})
    return rows


def _judges() -> Rows:
    import sys

    from spillover.judges import JUDGES

    pages = {name: sys.modules[JUDGES.load(name).__module__].__doc__ or "" for name in JUDGES.names()}
    return [{"name": name, "what": page.partition("\n")[0].rstrip(".:")} for name, page in pages.items()]


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
    from importlib import import_module

    from spillover.directions import METHODS, SHIFT

    places = {**METHODS.table, SHIFT: f"spillover.directions.{SHIFT}:find"}
    pages = {name: import_module(place.partition(":")[0]).__doc__ or "" for name, place in places.items()}
    return [{"name": name, "what": page.partition("\n")[0].rstrip(".:")} for name, page in pages.items()]


def _sentence(function: Callable[..., float]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _names(kind: str) -> Callable[[], Rows]:
    def rows() -> Rows:
        from spillover.registry import resolve

        places = {
            "triggers": "spillover.triggers:TRIGGERS",
            "backends": "spillover.backends:BACKENDS",
            "executors": "spillover.executors:EXECUTORS",
        }
        return [{"name": name} for name in resolve(places[kind]).names()]

    return rows


KINDS: dict[str, Callable[[], Rows]] = {
    "domains": _domains,
    "questions": _questions,
    "judges": _judges,
    "metrics": _metrics,
    "diversity": _diversity,
    "methods": _methods,
    "triggers": _names("triggers"),
    "backends": _names("backends"),
    "executors": _names("executors"),
}


@click.command(name="list")
@click.argument("kind", type=click.Choice(list(KINDS)), default="domains", metavar="[KIND]")
@as_json_option
def list_(kind: str, as_json: bool) -> None:
    """List what can be named in a study file.

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
