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
    "triggers": _names("triggers"),
    "backends": _names("backends"),
    "executors": _names("executors"),
}


@click.command(name="list")
@click.argument("kind", type=click.Choice(list(KINDS)), default="domains")
@as_json_option
def list_(kind: str, as_json: bool) -> None:
    """List what can be named in a study file; domains when no KIND is given."""
    rows = KINDS[kind]()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(escape(value) for value in row.values()))
    Console().print(table)
