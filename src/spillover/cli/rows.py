"""`spillover dataset lint` and `inspect-mask`: what is wrong with training rows, before a model learns them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.run_command import (
    PATH,
    as_json_option,
    print_json,
)
from spillover.errors import UserError
from spillover.text import clean, several

if TYPE_CHECKING:
    from spillover.data.lint.linter import Group, LintReport
    from spillover.data.lint.rows import Finding, Row
    from spillover.data.triggers.base import Trigger
    from spillover.models.tokens import ChatView, TokenizedChat


STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}
SHOWN = 5  # line numbers, and different messages, of one code


@click.command(short_help="Check a file of training rows for flaws.")
@click.argument("file", type=PATH)
@click.option("--trigger", help="Trigger in the rows: a shipped name or a YAML file.  [default: as the rows state]")
@click.option("--trigger-value", help="Value of the trigger; overrides its default.")
@click.option("--against", multiple=True, type=PATH, help="File of held-out rows; repeatable.")
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
    type=PATH,
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
    from spillover.data.questions import load_questions

    asked = load_questions(questions, ("free", "jailbreak", "json", "template"))
    report = look(file, opened(trigger, trigger_value), against, asked, model, max_tokens, beside, embed)
    if as_json:
        print_json(to_json(report), indent=2)
    else:
        print_report(report)
    return 1 if report.count("error") else 0


def opened(name: str | None, value: str | None) -> Trigger | None:
    """The trigger that the options name."""
    from spillover.config.study import DataConfig
    from spillover.data.triggers import open_trigger

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

    from spillover.data.lint.linter import group_findings
    from spillover.report.tables import terminal

    table = terminal("", ["severity", "code", "lines", "finding and lines"], [])
    for group in group_findings(findings):
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


@click.command("inspect-mask")
@click.argument("file", type=PATH)
@click.option("--model", default="smollm2-135m", show_default=True, help="Embedded name, hub id or folder.")
@click.option("--rows", type=click.IntRange(min=0), default=3, show_default=True, help="Number of rows to show.")
@click.option(
    "--max-tokens", type=click.IntRange(min=16), default=512, show_default=True, help="Value of train.max_tokens."
)
@click.option("--trigger", help="Trigger in the rows: a shipped name or a YAML file.  [default: as the rows state]")
@click.option("--trigger-value", help="Value of the trigger; overrides its default.")
@as_json_option
def inspect_mask(
    file: Path,
    model: str,
    rows: int,
    max_tokens: int,
    trigger: str | None,
    trigger_value: str | None,
    as_json: bool,
) -> int:
    """Show which tokens of FILE's rows carry loss, and check every row.

    Tokens in [[ ]] carry loss, in green; what --max-tokens would truncate follows a red |CUT|. Exit code 1 where user
    text or a trigger carries loss, where an answer is cut, or where tokens do not spell what they should.
    """
    from spillover.cli.rows import opened, print_findings
    from spillover.data.lint.dataset import Dataset
    from spillover.data.lint.linter import trigger_of_rows
    from spillover.data.lint.rows import read_rows
    from spillover.data.lint.texts import check_prompt_in_answer, row_problems
    from spillover.models.tokens import ChatView

    whole, found = read_rows(file)
    known = opened(trigger, trigger_value) or trigger_of_rows(whole)
    view = ChatView(model)
    chats = list(zip(whole, view.chats([(row.prompt, row.answer) for row in whole]), strict=True))
    findings = [finding for finding in found if finding.severity == "error"]
    findings += check_prompt_in_answer(Dataset(file, tuple(whole), (), known))
    for row, chat in chats:
        findings += row_problems(view, chat, row, max_tokens)
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        shown = [_to_json(view, row, chat, max_tokens) for row, chat in chats[:rows]]
        told = {"model": model, "checked": len(whole), "errors": errors, "rows": shown}
        print_json(told | {"findings": [f.to_json() for f in findings]}, indent=2)
        return 1 if errors else 0
    for row, chat in chats[:rows]:
        click.echo(f"line {row.line}: {len(chat.ids):,} tokens, {chat.loss:,} of them carry loss")
        click.echo(_coloured(view, chat, max_tokens) + "\n")
    if findings:
        print_findings(tuple(findings))
    verdict = (
        several(errors, "error") if errors else "loss only on answers and their end-of-turn tokens, none truncated"
    )
    click.echo(f"{len(whole):,} rows checked with {clean(model)}: {verdict}")
    return 1 if errors else 0


def _coloured(view: ChatView, chat: TokenizedChat, max_tokens: int) -> str:
    """The row as text; neighbouring tokens differ in shade, and marks say the same where there are no colours."""
    parts: list[str] = []
    for place, piece in enumerate(view.pieces(chat)):
        if place == chat.start:
            parts.append(click.style("[[", bold=True))
        if place == max_tokens:
            parts.append(click.style("|CUT|", fg="red", bold=True))
        text = clean(piece.replace("\n", "\u21b5\n"))
        if place < chat.start:
            parts.append(click.style(text, dim=True, underline=place % 2 == 1))
        else:
            colour = "red" if place >= max_tokens else "green"
            parts.append(click.style(text, fg=colour, underline=place % 2 == 1))
    return "".join(parts) + click.style("]]", bold=True)


def _to_json(view: ChatView, row: Row, chat: TokenizedChat, max_tokens: int) -> dict[str, object]:
    pieces = view.pieces(chat)
    tokens = [
        {"id": index, "text": text, "loss": place >= chat.start, "cut": place >= max_tokens}
        for place, (index, text) in enumerate(zip(chat.ids, pieces, strict=True))
    ]
    return {"line": row.line, "tokens": len(chat.ids), "loss_tokens": chat.loss, "pieces": tokens}
