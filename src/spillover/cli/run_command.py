"""What commands share: options with one name and one meaning, JSON output, and how a run folder is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from spillover.text import clean

if TYPE_CHECKING:
    from spillover.study.run import Run

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")

PATH = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**32 - 1)

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress.")
domain_option = click.option("--domain", "domains", multiple=True, help="Restrict to this domain; repeatable.")
model_option = click.option("--model", "models", multiple=True, help="Restrict to this model; repeatable.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="A.B=VALUE", help="Override one setting; repeatable."
)


def run_command(
    short_help: str | None = None,
) -> Callable[[Callable[Concatenate[Run, P], int | None]], click.Command]:
    """Make a command of a function whose first parameter is the run in the folder RUN, opened."""

    def decorate(body: Callable[Concatenate[Run, P], int | None]) -> click.Command:
        @click.command(short_help=short_help)
        @click.argument("run", type=PATH)
        @wraps(body)
        def command(run: Path, *args: P.args, **options: P.kwargs) -> int | None:
            from spillover.study.run import Run

            return body(Run.open(run), *args, **options)

        return command

    return decorate


def study_options(command: F) -> F:
    """A study file and the options that change it for this call."""
    for option in (
        click.option("--limit", type=click.IntRange(min=1), help="Only the first LIMIT questions, for a quick look."),
        click.option("--seed", type=int, help="Root seed; overrides the study's."),
        set_option,
        click.argument("study", type=PATH),
    ):
        command = option(command)
    return command


def overrides(settings: Iterable[str], seed: int | None, limit: int | None) -> tuple[str, ...]:
    """The shared options as "a.b=value" settings."""
    given = {"seed": seed, "sample.limit": limit}
    return (*settings, *(f"{key}={value}" for key, value in given.items() if value is not None))


def print_json(value: object, indent: int | None = None) -> None:
    """Print a value that may hold records and dataclasses."""
    click.echo(json.dumps(value, indent=indent, default=_plain))


def _plain(value: Any) -> Any:  # what json cannot write
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else asdict(value)


def exit_code(failures: Iterable[str], kept: str) -> int:
    """Name the failures on standard error, and how to resume; 1 if there are any."""
    lines = [clean(f"failed: {failure}") for failure in failures]
    if lines:
        click.echo("\n".join([*lines, f"Fix the cause and run the same command again: finished {kept} are kept."]),
                   err=True)  # fmt: skip
    return 1 if lines else 0
