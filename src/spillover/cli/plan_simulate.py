"""`spillover plan --simulate`: how long a study takes on a cluster, and how far that is from the least possible."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.planning.cluster_schedule import Machines
from spillover.planning.gpus import Card
from spillover.provenance import cores
from spillover.study.rehearsal import estimated, measured, rehearse
from spillover.study.run import Run
from spillover.study.study import Study


def show(
    study: Study,
    nodes: int,
    gpus: int,
    card: Card,
    failures: float,
    run: Path | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Print the simulated schedules, as a table or as JSON."""
    share = study.config.cluster.gpus
    each = int(gpus / (1.0 if share == "auto" else share or 1.0)) if gpus else cores()
    seconds = estimated(study, card if gpus else None) if run is None else measured(Run.open(run))
    told = rehearse(study, Machines(nodes, each, failures), seconds)
    bound, schedules = told["lower_bound"], told["schedules"]
    if price is not None:
        for row in (bound, *schedules.values()):
            row["dollars"] = price * row["worker_hours"]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    from rich.console import Console

    from spillover.report.tables import terminal
    from spillover.text import one_line

    columns = [*schedules.values(), bound]
    who = f"{told['cells']:,} models, {told['tasks']:,} units, {nodes} x {each} workers"
    table = terminal(f"{one_line(study.config.name, 60)}: {who}", [""], [*schedules, "lower bound"])
    for label, key, form in ROWS:
        if key in columns[0]:
            table.add_row(label, *(form.format(column[key]) if key in column else "" for column in columns))
    Console().print(table)
    source = str(run) if run else f"stated speeds of {card.name}" if gpus else "stated speeds of this machine"
    click.echo(f"A unit's seconds are from {source}; a study runs its stages in turn. See docs/how-to/plan-a-study.md.")


ROWS = (
    ("hours", "hours", "{:,.2f}"),
    ("hours / lower bound", "over_bound", "{:.3f}"),
    ("utilisation", "utilisation", "{:.1%}"),
    ("worker hours paid", "worker_hours", "{:,.0f}"),
    ("of them loading", "loading_hours", "{:,.1f}"),
    ("of them lost", "lost_hours", "{:,.1f}"),
    ("loads of a model", "loads", "{:,}"),
    ("machines failed", "failures", "{:,}"),
    ("dollars", "dollars", "{:,.0f}"),
)
