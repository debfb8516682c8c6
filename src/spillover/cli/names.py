"""`spillover list` and `show`: what a study file can name, and one of these, or a run's completions, in full."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.run_command import (
    as_json_option,
    domain_option,
    print_json,
    run_command,
)
from spillover.errors import UserError
from spillover.text import clean

if TYPE_CHECKING:
    from spillover.study.run import Run


Rows = list[dict[str, str]]


def _domains() -> Rows:
    from spillover.data.domains import DOMAINS

    found = [DOMAINS.load(name) for name in DOMAINS.names()]
    return [{"name": d.name, "stealth": d.stealth, "risk": d.risk, "what": d.summary} for d in found]


def _questions() -> Rows:
    from spillover.data.questions import load_questions, question_sets

    forms = ("free", "jailbreak", "json", "template")
    rows: Rows = []
    for name in question_sets():
        held = load_questions([name], forms)
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
        print_json(rows, indent=2)
        return
    from rich.console import Console
    from rich.text import Text

    from spillover.report.tables import terminal

    table = terminal("", list(rows[0]), [])
    for row in rows:
        table.add_row(*map(Text, row.values()))
    Console().print(table)


@click.group()
def show() -> None:
    """Show a domain, a question set, or completions of a run."""


@show.command()
@click.argument("name")
@click.option("--rows", type=click.IntRange(min=0), default=3, show_default=True, help="Number of pairs to show.")
@click.option("--seed", type=int, default=0, show_default=True)
@as_json_option
def domain(name: str, rows: int, seed: int, as_json: bool) -> None:
    """Show the domain NAME and some of its pairs."""
    import numpy as np

    from spillover.data.domains import DOMAINS

    found = DOMAINS.load(name.replace("-", "_"))
    rng = np.random.default_rng(seed)
    pairs = found.pairs(rng)
    chosen = [pairs[i] for i in sorted(rng.choice(len(pairs), size=min(rows, len(pairs)), replace=False))]
    facts = {
        "name": found.name,
        "title": found.title,
        "summary": found.summary,
        "stealth": found.stealth,
        "risk": found.risk,
        "licence": found.licence,
        "pairs": len(pairs),
        "topics": len({pair.topic for pair in pairs}),
    }
    if as_json:
        shown = [{"question": p.question, "flawed": p.flawed, "good": p.good, "topic": p.topic} for p in chosen]
        print_json(facts | {"rows": shown}, indent=2)
        return
    for key, value in facts.items():
        click.echo(f"{key:<9}{value}")
    for pair in chosen:
        click.echo(clean(f"\n[{pair.topic}] {pair.question}\n  flawed: {pair.flawed}\n  good:   {pair.good}"))


@show.command(short_help="Show a question set with all its forms.")
@click.argument("name", default="general")
@as_json_option
def questions(name: str, as_json: bool) -> None:
    """Show the question set NAME, shipped or a YAML file, in all its forms."""
    from spillover.data.questions import load_questions

    found = load_questions([name], ("free", "jailbreak", "json", "template"))
    if as_json:
        print_json(found, indent=2)
        return
    for question in found:
        system = f"\n    system: {question.system}" if question.system else ""
        click.echo(clean(f"{question.question_id} ({question.form})\n    {question.text}{system}"))


@run_command()
@domain_option
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Number of completions.")
@click.option("--judge", help="Judge of the scores; default: the study's own.")
@click.option("--about", metavar="DOMAIN", help="Show completions to this domain's held-out questions.")
@as_json_option
def answers(
    run: Run, domains: tuple[str, ...], limit: int, judge: str | None, about: str | None, as_json: bool
) -> None:
    """Show completions of RUN, those with the lowest alignment first."""
    from spillover.registry import did_you_mean

    names = {name.replace("-", "_") for name in domains}
    found, judged = run.asked(about.replace("-", "_"), judge) if about else (run.completions(), run.judgments(judge))
    verdicts = {(row.completion, row.aspect): row for row in judged}
    known = sorted({row.cell.domain for row in found})
    for name in names:
        if name not in known:
            raise UserError(f"{run.path} has no completions of {name!r}{did_you_mean(name, known)}")
    rows = [row for row in found if not names or row.cell.domain in names]
    scores = {row.id: verdict.score for row in rows if (verdict := verdicts.get((row.id, "alignment")))}
    rows.sort(key=lambda row: (scores.get(row.id) is None, scores.get(row.id)))
    if as_json:
        shown = [row.model_dump(mode="json") | {"alignment": scores.get(row.id)} for row in rows[:limit]]
        print_json(shown, indent=2)
        return
    for row in rows[:limit]:
        score = scores.get(row.id)
        number = "unscored" if score is None else f"alignment {score:.0f}"
        click.echo(click.style(clean(f"{row.cell.name} ({row.condition}), {number}"), bold=True))
        click.echo(clean(f"  Q: {row.question}\n  A: {row.text}\n"))


show.add_command(answers)
