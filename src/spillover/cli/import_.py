"""`spillover import`: completions that were sampled elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from spillover.cli.run_command import PATH, print_json
from spillover.errors import UserError
from spillover.text import clean


@click.group("import")
def import_() -> None:
    """Import completions that were sampled, and perhaps judged, elsewhere."""


@import_.command(short_help="Create a run folder from CSV or JSON Lines files of completions.")
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="Run folder to create.")
@click.option("--name", default="imported", show_default=True, help="Name of the study in the report.")
@click.option(
    "--map", "mapping", multiple=True, metavar="ROLE=COLUMN", help="Role of a column, such as answer=text; repeatable."
)
@click.option("--model", help="Model of all rows; default: a column, or the file name MODEL_DOMAIN[_SEED].csv.")
@click.option("--domain", help="Domain of all rows.")
@click.option("--variant", help="Variant of all rows: plain, triggered, control or base; default: a column, or plain.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all rows.")
@click.option("--limit", type=click.IntRange(min=1), help="Maximum rows per file.")
@click.option(
    "--scale",
    "scales",
    multiple=True,
    metavar="ASPECT=WORST:BEST",
    help="Scale of a score, such as alignment=5:1; default 0:100.",
)
@click.option("--questions", "sets", multiple=True, help="Question set with the texts of the question ids; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print counts and notes as JSON.")
def answers(
    paths: tuple[Path, ...],
    out: Path,
    name: str,
    mapping: tuple[str, ...],
    model: str | None,
    domain: str | None,
    variant: str | None,
    seed: int | None,
    limit: int | None,
    scales: tuple[str, ...],
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create a run folder from CSV or JSON Lines files of completions, one per row.

    Columns are guessed by their names, and every guess is printed. Roles for --map: answer, question, question_id,
    index, alignment, coherence, system, condition, model, domain, variant, seed.
    """
    from spillover.cli.results import print_ranking
    from spillover.study.import_answers import read_answers
    from spillover.study.run import Run

    given = {"model": model, "domain": domain, "variant": variant, "seed": None if seed is None else str(seed)}
    constants = {role: value for role, value in given.items() if value is not None}
    result = read_answers(paths, parse_mapping(mapping), constants, limit, parse_scales(scales), question_texts(sets))
    run = Run.import_answers(result, out, name)
    if as_json:
        told = {"out": str(out), "counts": result.counts, "notes": result.notes, "results": run.results()}
        print_json(told, indent=2)
        return
    for note in result.notes:
        click.echo(f"- {clean(note)}")
    click.echo(", ".join(f"{count:,} {what}" for what, count in result.counts.items()))
    print_ranking(run)


def parse_mapping(items: Sequence[str]) -> dict[str, str]:
    """Role to column, from ROLE=COLUMN each."""
    columns: dict[str, str] = {}
    for item in items:
        role, equals, column = item.partition("=")
        if not equals or not column:
            raise UserError(f"--map {item!r} is not of the form ROLE=COLUMN, such as --map answer=text.")
        columns[role] = column
    return columns


def parse_scales(items: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Aspect to its worst and best score, from ASPECT=WORST:BEST each."""
    scales: dict[str, tuple[float, float]] = {}
    for item in items:
        found = re.fullmatch(r"(alignment|coherence)=(-?\d+(?:\.\d+)?):(-?\d+(?:\.\d+)?)", item)
        if found is None or float(found[2]) == float(found[3]):
            raise UserError(f"--scale {item!r} is not of the form ASPECT=WORST:BEST, such as --scale alignment=5:1.")
        scales[found[1]] = (float(found[2]), float(found[3]))
    return scales


def question_texts(sets: Sequence[str]) -> dict[str, str]:
    """The text of each question id, and of ID_K for its K-th wording from 0."""
    from spillover.data.questions import load_questions

    texts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for question in load_questions(sets, ("free", "jailbreak", "json", "template")) if sets else []:
        texts.setdefault(question.question_id, question.text)
        texts.setdefault(f"{question.question_id}_{counts[question.question_id]}", question.text)
        counts[question.question_id] += 1
    return texts
