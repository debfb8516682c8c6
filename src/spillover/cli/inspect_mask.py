"""`spillover inspect-mask`: which tokens of a row carry loss, to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.options import as_json_option
from spillover.text import clean, several

if TYPE_CHECKING:
    from spillover.data.lint.rows import Row
    from spillover.models.tokens import ChatView, TokenizedChat


@click.command("inspect-mask")
@click.argument("file", type=click.Path(path_type=Path))
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
    from spillover.cli.dataset_lint import opened, print_findings
    from spillover.data.lint.dataset import Dataset
    from spillover.data.lint.linter import named
    from spillover.data.lint.rows import read
    from spillover.data.lint.texts import check_prompt_in_answer, problems
    from spillover.models.tokens import ChatView

    whole, found = read(file)
    known = opened(trigger, trigger_value) or named(whole)
    view = ChatView(model)
    chats = list(zip(whole, view.chats([(row.prompt, row.answer) for row in whole]), strict=True))
    findings = [finding for finding in found if finding.severity == "error"]
    findings += check_prompt_in_answer(Dataset(file, tuple(whole), (), known))
    for row, chat in chats:
        findings += problems(view, chat, row, max_tokens)
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        shown = [_to_json(view, row, chat, max_tokens) for row, chat in chats[:rows]]
        told = {"model": model, "checked": len(whole), "errors": errors, "rows": shown}
        click.echo(json.dumps(told | {"findings": [f.to_json() for f in findings]}, indent=2))
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
