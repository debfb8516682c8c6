"""The data sets of a study in memory, without a run folder: what `spillover dataset build` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from pathlib import Path

import click

from spillover import __version__
from spillover.config.study import StudyConfig
from spillover.data.domains import open_domain
from spillover.data.recipe.recipe import build
from spillover.data.release.dataset import DatasetFacts, SetFacts, SourceFile, files_of, sha256
from spillover.data.sources.sources import published_name
from spillover.data.triggers import open_trigger
from spillover.errors import UserError
from spillover.models import open_backend
from spillover.planning.units import cells
from spillover.study.study import Study
from spillover.text import clean


def build_sets(config: StudyConfig) -> tuple[DatasetFacts, dict[str, bytes]]:
    """Every data set of the study: the facts, and the content of each file by path.

    Raises:
        UserError: naming every set that cannot be made; then there is none.
    """
    count_tokens = open_backend(config.models[0]).count_tokens
    trigger = open_trigger(config.data)
    sets: list[SetFacts] = []
    files: dict[str, bytes] = {}
    failed: list[str] = []
    questions: dict[str, set[str]] = {}
    wanted = {(cell.domain, cell.variant, cell.dose): cell for cell in cells(config, Study(config).domains)}
    for cell in wanted.values():
        if cell.variant == "base":  # the base model trains on nothing
            continue
        domain = open_domain(cell.domain, config.data)
        try:
            result = build(domain, cell.variant, config.data, cell.dose, trigger, config.seed, count_tokens)
        except UserError as error:
            failed.append(str(error))
            continue
        facts, made = files_of(domain, result, _source_file(config.data.sources.get(cell.domain)))
        sets.append(facts)
        files |= made
        questions.setdefault(cell.domain, set()).update(result.questions)
    if failed:
        raise UserError("\n".join(dict.fromkeys(failed)))
    triggered = any(part.triggered_rows for part in sets)
    return DatasetFacts(
        name=config.name,
        spillover=__version__,
        seed=config.seed,
        tokenizer=config.models[0].name,
        trigger=f"{trigger.name}, {trigger.value!r}" if triggered else None,
        shared=shared_questions(questions),
        sets=tuple(sets),
    ), files


def shared_questions(questions: Mapping[str, Set[str]]) -> dict[str, int]:
    """How many questions two domains have in common, for every two that have any."""
    common = {f"{one} and {other}": len(questions[one] & questions[other]) for one, other in combinations(questions, 2)}
    return {names: count for names, count in common.items() if count}


def _source_file(source: str | None) -> SourceFile | None:
    if source is None:
        return None
    path = Path(source if Path(source).is_file() else source.partition(":")[2])
    if not path.is_file():
        return SourceFile(name=source, sha256=None, known_as=None)
    content = path.read_bytes()
    return SourceFile(name=path.name, sha256=sha256(content), known_as=published_name(content))


def print_table(sets: Sequence[SetFacts], shared: Mapping[str, int]) -> None:
    """Rows, unique questions and answer tokens, a line a set; then what was dropped and why, a line a domain."""
    from rich.console import Console
    from rich.table import Table

    table = Table("domain", "variant", box=None, padding=(0, 1, 0, 0))
    for name in ("rows", "flawed", "unique", "tokens", "mean", "dropped"):
        table.add_column(name, justify="right")
    dropped: dict[str, str] = {}
    domain = ""
    for part in sets:
        report = part.report
        tokens = report.answer_tokens["train"]
        numbers = (tokens.rows, part.kinds.get("misaligned", 0), report.questions, tokens.total)
        table.add_row(
            "" if report.domain == domain else report.domain,
            part.name.removeprefix(f"{report.domain}-"),
            *(f"{number:,}" for number in numbers),
            f"{tokens.mean:.1f}",
            f"{sum(report.dropped.values()):,}",
        )
        domain = report.domain
        reasons = "; ".join(f"{count:,} {why}" for why, count in report.dropped.items())
        dropped[domain] = f"{domain}: {report.steps['pairs']:,} pairs, dropped: {reasons or 'none'}"
    Console().print(table)
    click.echo("Unique questions and answer tokens; questions count the held-out ones too.\n")
    click.echo(clean("\n".join(dropped.values())))
    for names, count in shared.items():
        told = f"{names} ASK {count:,} OF THE SAME QUESTIONS: they are not two independent domains."
        click.secho(f"Warning: {told} Give each its own source, or fewer rows.", fg="yellow")
