"""`spillover env`: what a bug report or a manifest needs to know of this installation."""

from __future__ import annotations

import json

import click

from spillover.cli.options import as_json_option
from spillover.provenance import environment


@click.command()
@as_json_option
def env(as_json: bool) -> None:
    """Print versions, commit and hardware; no host name, user name or path."""
    facts = environment()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    packages = facts.pop("packages")
    sections = {"": {key: value for key, value in facts.items() if isinstance(value, str)}, **facts}
    for title in ("", "git", "hardware"):
        for key, value in sections[title].items():
            click.echo(f"{f'{title}.{key}'.lstrip('.'):<24}{value}")
    click.echo("packages                " + " ".join(f"{name}=={version}" for name, version in packages.items()))
