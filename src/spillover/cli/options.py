"""Options that several commands share, so that they have one name and one meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
domain_option = click.option("--domain", "domains", multiple=True, help="Restrict to this domain; repeatable.")
model_option = click.option("--model", "models", multiple=True, help="Restrict to this model; repeatable.")


def study_options(command: F) -> F:
    """A study file and the options that change it for this call."""
    for option in (
        click.option("--limit", type=click.IntRange(min=1), help="Only the first LIMIT questions, for a quick look."),
        click.option("--seed", type=int, help="Root seed; overrides the study's."),
        click.option("--set", "settings", multiple=True, metavar="A.B=VALUE", help="Override one setting; repeatable."),
        click.argument("study", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def overrides(settings: tuple[str, ...], seed: int | None, limit: int | None) -> tuple[str, ...]:
    """The shared options as "a.b=value" settings."""
    extra = [*settings]
    if seed is not None:
        extra.append(f"seed={seed}")
    if limit is not None:
        extra.append(f"sample.limit={limit}")
    return tuple(extra)
