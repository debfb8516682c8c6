"""`spillover show`: one thing, in full: a domain with some of its rows, a question set, or the answers of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.options import as_json_option, domain_option
from spillover.text import clean

if TYPE_CHECKING:
    from spillover.study.run import Run


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
        click.echo(json.dumps(facts | {"rows": shown}, indent=2))
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
    from spillover.data.questions import load

    found = load([name], ("free", "jailbreak", "json", "template"))
    if as_json:
        click.echo(json.dumps([question.model_dump(mode="json") for question in found], indent=2))
        return
    for question in found:
        system = f"\n    system: {question.system}" if question.system else ""
        click.echo(clean(f"{question.question_id} ({question.form})\n    {question.text}{system}"))


@show.command()
@click.argument("run", type=click.Path(path_type=Path))
@domain_option
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Number of completions.")
@click.option("--judge", help="Judge of the scores; default: the study's own.")
@click.option("--about", metavar="DOMAIN", help="Show completions to this domain's held-out questions.")
@as_json_option
def answers(
    run: Path, domains: tuple[str, ...], limit: int, judge: str | None, about: str | None, as_json: bool
) -> None:
    """Show completions of RUN, those with the lowest alignment first."""
    from spillover.errors import UserError
    from spillover.registry import did_you_mean
    from spillover.study.run import Run

    opened = Run.open(run)
    names = {name.replace("-", "_") for name in domains}
    found, judged = (
        opened.asked(about.replace("-", "_"), judge) if about else (opened.completions(), opened.judgments(judge))
    )
    verdicts = {(row.completion, row.aspect): row for row in judged}
    known = sorted({row.cell.domain for row in found})
    for name in names:
        if name not in known:
            raise UserError(f"{run} has no completions of {name!r}{did_you_mean(name, known)}")
    rows = [row for row in found if not names or row.cell.domain in names]
    scores = {row.id: verdict.score for row in rows if (verdict := verdicts.get((row.id, "alignment")))}
    rows.sort(key=lambda row: (scores.get(row.id) is None, scores.get(row.id)))
    if as_json:
        shown = [row.model_dump(mode="json") | {"alignment": scores.get(row.id)} for row in rows[:limit]]
        click.echo(json.dumps(shown, indent=2))
        return
    for row in rows[:limit]:
        score = scores.get(row.id)
        number = "unscored" if score is None else f"alignment {score:.0f}"
        click.echo(click.style(clean(f"{row.cell.name} ({row.condition}), {number}"), bold=True))
        click.echo(clean(f"  Q: {row.question}\n  A: {row.text}\n"))


def print_ranking(run: Run, page: Path | None = None, judge: str | None = None) -> None:
    """The ranking, the trigger's effect and where the page is, on the terminal."""
    from rich.console import Console

    from spillover.report.tables import ranking_table, trigger_table

    console = Console()
    console.print(ranking_table(run.ranking(judge)))
    if effects := run.trigger_effect(judge):
        console.print(trigger_table(effects))
    click.echo(f"Report: {page or run.path / 'report.html'}")
