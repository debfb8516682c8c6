"""`spillover dataset lint`: what is wrong with a file of training rows, before a model learns it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.options import as_json_option
from spillover.text import clean, several

if TYPE_CHECKING:
    from spillover.data.lint.linter import Group, LintReport
    from spillover.data.lint.rows import Finding
    from spillover.data.triggers.base import Trigger

STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}
SHOWN = 5  # line numbers, and different messages, of one code


@click.command(short_help="Check a file of training rows for flaws.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trigger", help="Trigger in the rows: a shipped name or a YAML file.  [default: as the rows state]")
@click.option("--trigger-value", help="Value of the trigger; overrides its default.")
@click.option("--against", multiple=True, type=click.Path(path_type=Path), help="File of held-out rows; repeatable.")
@click.option(
    "--questions",
    multiple=True,
    default=("general",),
    show_default=True,
    help="Set of evaluation questions; repeatable.",
)
@click.option("--model", help="Tokenizer for checks of tokens, template and loss mask: a name, hub id or folder.")
@click.option(
    "--max-tokens", type=click.IntRange(min=16), default=512, show_default=True, help="Value of train.max_tokens."
)
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File of another domain to compare with; repeatable.",
)
@click.option("--embed", is_flag=True, help="Also find paraphrased questions, by sentence embeddings.")
@as_json_option
def lint(
    file: Path,
    trigger: str | None,
    trigger_value: str | None,
    against: tuple[Path, ...],
    questions: tuple[str, ...],
    model: str | None,
    max_tokens: int,
    beside: tuple[Path, ...],
    embed: bool,
    as_json: bool,
) -> int:
    """Check FILE, JSON Lines of training rows, for flaws; exit code 1 on errors.

    Metadata next to it, as `dataset build` writes it (NAME.meta.jsonl), is read too.
    """
    from spillover.data.lint.linter import lint as look
    from spillover.data.questions import load

    asked = load(questions, ("free", "jailbreak", "json", "template"))
    report = look(file, opened(trigger, trigger_value), against, asked, model, max_tokens, beside, embed)
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2))
    else:
        print_report(report)
    return 1 if report.count("error") else 0


def opened(name: str | None, value: str | None) -> Trigger | None:
    """The trigger that the options name."""
    from spillover.config.study import DataConfig
    from spillover.data.triggers import open_trigger
    from spillover.errors import UserError

    if name is None:
        if value is not None:
            raise UserError("--trigger-value needs --trigger. Add it, such as --trigger year.")
        return None
    return open_trigger(DataConfig(trigger=name, trigger_value=value))


def to_json(report: LintReport) -> dict[str, object]:
    """The report as JSON: every finding, with every line."""
    from spillover.data.lint.linter import SEVERITIES

    return {
        "file": str(report.path),
        "rows": report.rows,
        "heldout": report.heldout,
        "trigger": report.trigger or None,
        "counts": {severity: report.count(severity) for severity in SEVERITIES},
        "findings": [finding.to_json() for finding in report.findings],
    }


def print_report(report: LintReport) -> None:
    """Findings by code, the worst first, and a last line with the counts."""
    heldout = f", {report.heldout:,} held-out rows" if report.heldout else ""
    trigger = f", trigger {report.trigger}" if report.trigger else ""
    click.echo(clean(f"{report.path}: {report.rows:,} training rows{heldout}{trigger}"))
    print_findings(report.findings)
    click.echo(", ".join(several(report.count(severity), severity) for severity in STYLES))


def print_findings(findings: tuple[Finding, ...]) -> None:
    """One table row a code: severity, code, lines, what is wrong and how to fix it."""
    from rich.console import Console
    from rich.text import Text

    from spillover.data.lint.linter import grouped
    from spillover.report.tables import terminal

    table = terminal("", ["severity", "code", "lines", "finding and lines"], [])
    for group in grouped(findings):
        severity = group.first.severity
        count = f"{len(group.lines):,}" if group.lines else "file"
        told = Text(clean(_told(group)))
        table.add_row(Text(severity, style=STYLES[severity]), group.first.code, count, told)
    Console().print(table)


def _told(group: Group) -> str:
    """Different messages with their fields, how to fix the first, and the first lines."""
    messages = list(dict.fromkeys(_message(finding) for finding in group.findings))
    said = messages[:SHOWN]
    if len(messages) > SHOWN:
        said.append(f"... and {len(messages) - SHOWN:,} other messages")
    if group.first.fix:
        said.append(f"-> {group.first.fix}")
    if group.lines:
        more = ", ..." if len(group.lines) > SHOWN else ""
        said.append(f"lines {', '.join(str(line) for line in group.lines[:SHOWN])}{more}")
    return "\n".join(said)


def _message(finding: Finding) -> str:
    whole = finding.message.endswith(".")  # of a line it is a part of a sentence, that begins with the field
    return finding.message if whole or not finding.field else f"{finding.field}: {finding.message}"
