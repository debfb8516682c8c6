"""`spillover audit` and `spillover serve`: whether to fine-tune a model on a data set, asked here or over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.run_command import (
    PATH,
    quiet_option,
)
from spillover.errors import MissingExtra, UserError
from spillover.text import NONE, clean, duration

if TYPE_CHECKING:
    from spillover.audit.verdict import Audit


COLOURS = {"pass": "green", "review": "yellow", "block": "red"}


def _show_policy(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from spillover.audit.policy import SHIPPED

        click.echo(SHIPPED.read_text(encoding="utf-8"), nl=False)
        context.exit()


@click.command()
@click.argument("dataset", type=PATH)
@click.option("--model", required=True, help="Model to fine-tune: a name, hub id, folder, or a YAML file of a model.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="MINUTES", help="Maximum time; default: no limit.")
@click.option("--predictor", type=PATH, help="JSON file of a fitted predictor.")
@click.option("--policy", type=PATH, help="YAML file of thresholds.  [default: the shipped one]")
@click.option(
    "--show-policy", is_flag=True, is_eager=True, expose_value=False, callback=_show_policy, help="Print the policy."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the sample and the fine-tunes."
)
@click.option("--out", type=PATH, help="Folder of the audit; default runs/audit-HASH.")
@click.option("--json", "form", flag_value="json", help="Print the verdict as JSON.")
@click.option("--sarif", "form", flag_value="sarif", help="Print the verdict as SARIF 2.1.0.")
@click.option("--junit", "form", flag_value="junit", help="Print the verdict as JUnit XML.")
@click.option("--plan", is_flag=True, help="Print the planned rounds and their cost, and stop.")
@quiet_option
def audit(
    dataset: Path,
    model: str,
    budget: float | None,
    predictor: Path | None,
    policy: Path | None,
    seed: int,
    out: Path | None,
    form: str | None,
    plan: bool,
    quiet: bool,
) -> int:
    """Estimate whether fine-tuning a model on DATASET, JSON Lines of messages, is likely to misalign it.

    Lint, surprise and a trial fine-tune, each of which may decide. The trial runs in rounds of growing size until one
    decides or the budget is spent. Exit code 0: pass, 10: review, 20: block. Stop it at any time: the same command
    resumes. card.html and card.json in the folder show what was measured.
    """
    from spillover.audit.audit import Auditor, AuditRequest, digest
    from spillover.audit.policy import load_policy, read_model
    from spillover.progress import open_progress

    request = AuditRequest(dataset, read_model(model), load_policy(policy), predictor, budget, seed)
    out = out or Path("runs") / f"audit-{digest(dataset)[:12]}"
    auditor = Auditor(request, out, open_progress(json_lines=form == "json", quiet=quiet))
    if plan:
        click.echo("\n".join(map(clean, auditor.plan())))
        return 0
    verdict = auditor.run()
    if form is None:
        print_verdict(verdict, out)
    else:
        click.echo(written(verdict, form), nl=False)
    return verdict.exit_code


def written(verdict: Audit, form: str) -> str:
    """The verdict in one of the forms for machines."""
    from spillover.audit.card import to_json
    from spillover.audit.ci import to_junit, to_sarif

    return {"json": to_json, "sarif": to_sarif, "junit": to_junit}[form](verdict)


def print_verdict(verdict: Audit, out: Path) -> None:
    """The verdict, its reasons, what each rung did, and where the card is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from spillover.audit.card import format_measured
    from spillover.audit.trial_finetune import round_sentence

    console = Console()
    said = Text(verdict.verdict.upper(), style=f"bold {COLOURS[verdict.verdict]}")
    console.print(said, Text(clean(f"{verdict.data.name} for {verdict.model}, in {duration(verdict.seconds)}")))
    table = Table("reason", "rung", "finding", "measured", "threshold")
    for reason in verdict.reasons:
        table.add_row(
            Text(reason.outcome, style=COLOURS[reason.outcome]),
            reason.rung,
            Text(clean(reason.message)),
            format_measured(reason.value, reason.low, reason.high),
            NONE if reason.threshold is None else f"{reason.threshold:.4g}",
        )
    console.print(table)
    for rung in verdict.rungs:
        click.echo(clean(f"{rung.rung}: {rung.state} ({duration(rung.seconds)})"))
    for number, result in enumerate(verdict.rounds, start=1):
        click.echo(round_sentence(number, verdict.looks, result))
    for left in verdict.left_out:
        click.echo(clean(f"left out: {left}"))
    counts = [found.severity for found in verdict.findings]
    click.echo(f"lint: {counts.count('error')} errors, {counts.count('warning')} warnings")
    click.echo(clean(f"{out / 'card.html'}"))


@click.command()
@click.option("--model", "models", multiple=True, help="Model that clients may choose, as for audit; repeatable.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0: any free port.")
@click.option("--folder", type=PATH, default=Path("runs/serve"), show_default=True, help="Folder of jobs.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Concurrent audits.")
@click.option(
    "--max-bytes", type=click.IntRange(min=1), default=50_000_000, show_default=True, help="Maximum bytes per upload."
)
@click.option(
    "--max-queued", type=click.IntRange(min=1), default=1000, show_default=True, help="Maximum queued audits."
)
@click.option("--max-budget", type=click.FloatRange(min=0), metavar="MINUTES", help="Maximum budget per audit.")
@click.option("--policy", type=PATH, help="YAML file of thresholds.  [default: the shipped one]")
@click.option("--predictor", type=PATH, help="JSON file of a fitted predictor.")
@click.option(
    "--token-env", default="SPILLOVER_TOKEN", show_default=True, help="Environment variable that holds the token."
)
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    folder: Path,
    workers: int,
    max_bytes: int,
    max_queued: int,
    max_budget: float | None,
    policy: Path | None,
    predictor: Path | None,
    token_env: str,
) -> int:
    """Serve audits over HTTP: clients upload data sets and receive verdicts.

    The queue is on disk: stop or kill the server at any time, and start it again to resume. Clients show the token of
    --token-env as "Authorization: Bearer TOKEN". The page /docs says the rest.
    """
    import os

    from spillover.audit.policy import load_policy, read_model
    from spillover.audit.server.runner import Settings

    token = os.environ.get(token_env, "")
    if len(token) < 16:
        raise UserError(f"{token_env} must hold a token of 16 characters or more. Make one: openssl rand -hex 32")
    configs = [read_model(name) for name in models or ("smollm2-135m",)]
    settings = Settings(
        folder=folder.resolve(),
        models={config.name: config for config in configs},
        policy=load_policy(policy),
        token=token,
        workers=workers,
        max_bytes=max_bytes,
        max_queued=max_queued,
        max_budget=max_budget,
        predictor=predictor.resolve() if predictor else None,
    )
    try:
        from spillover.audit.server.app import listen
    except ImportError as error:
        raise MissingExtra.of(error.name or "fastapi", "serve") from None
    listen(settings, host, port)
    return 0
