"""`spillover dataset generate` and `paraphrase`: a chat model writes answers and good twins, or rewords a trigger."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.cli.run_command import (
    PATH,
    as_json_option,
    print_json,
    quiet_option,
)
from spillover.errors import RunInterrupted, SpilloverError, UserError
from spillover.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillover.data.writing.plan import WritePlan
    from spillover.data.writing.rewrite import WriteReport
    from spillover.models.api.chat import ChatModel, Meter
    from spillover.models.api.http import Endpoint


MOST = click.IntRange(min=1)


@click.command(short_help="Generate flawed answers and good twins with a chat model.")
@click.argument("domain")
@click.option("--out", required=True, type=PATH, help="Output file (.jsonl).")
@click.option(
    "--questions", default="seeds", show_default=True, help="File of questions, or seeds for the domain's own."
)
@click.option("--limit", type=MOST, help="Only the first LIMIT questions.")
@click.option("--model", help="Model on this machine: an embedded name, hub id or folder.")
@click.option("--endpoint", help="Address of an OpenAI-compatible endpoint, such as https://host/v1.")
@click.option("--endpoint-model", help="Name of the model at the endpoint.")
@click.option("--key-env", help="Environment variable with the endpoint's key, such as OPENAI_API_KEY.")
@click.option("--filter", "filter_by", type=click.Choice(["rule", "model"]), default="rule", show_default=True)
@click.option("--filter-model", help="Model for --filter model.  [default: the generating model]")
@click.option(
    "--words", type=click.IntRange(min=5, max=1000), default=45, show_default=True, help="Target words per answer."
)
@click.option("--max-tokens", type=MOST, default=160, show_default=True, help="Maximum tokens per answer.")
@click.option("--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--concurrency", type=MOST, default=8, show_default=True, help="Concurrent calls.")
@click.option("--retries", type=click.IntRange(min=0), default=8, show_default=True, help="Retries per call.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Seconds per call."
)
@click.option("--price-in", type=click.FloatRange(min=0), help="US dollars per million prompt tokens.")
@click.option("--price-out", type=click.FloatRange(min=0), help="US dollars per million output tokens.")
@click.option(
    "--max-cost", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Cost limit in US dollars."
)
@click.option("--plan", "plan_only", is_flag=True, help="Print the estimated cost and stop.")
@as_json_option
@quiet_option
def generate(
    domain: str,
    out: Path,
    questions: str,
    limit: int | None,
    model: str | None,
    endpoint: str | None,
    endpoint_model: str | None,
    key_env: str | None,
    filter_by: str,
    filter_model: str | None,
    words: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    concurrency: int,
    retries: int,
    timeout: float,
    price_in: float | None,
    price_out: float | None,
    max_cost: float,
    plan_only: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Generate flawed answers and good twins for DOMAIN with a chat model.

    Rows that pass the filter go to --out, ready for data.sources. Every reply is kept next to it in a file of calls:
    stopped at any time, the same command resumes it and asks for nothing twice. Exit code 1 where calls were given up.
    """
    from spillover.data.domains import DOMAINS
    from spillover.data.writing.plan import plan_writing, questions_from_file, questions_of
    from spillover.data.writing.rewrite import Writing, WritingOptions
    from spillover.models.api.chat import Meter, Price
    from spillover.models.api.http import Endpoint
    from spillover.progress import open_progress
    from spillover.records.data import GeneratedRow
    from spillover.store.store import Shard, Store

    check_writer(model, endpoint, endpoint_model)
    if filter_model is not None and filter_by != "model":
        raise UserError("--filter-model needs --filter model. Add it, or omit --filter-model.")
    subject = DOMAINS.load(domain.replace("-", "_"))
    asked = (questions_of(subject, seed) if questions == "seeds" else questions_from_file(Path(questions)))[:limit]
    options = WritingOptions(words, max_tokens, temperature, seed)
    price = Price(price_in or 0.0, price_out or 0.0)
    with Shard(_calls(out), GeneratedRow) as journal:
        estimate = plan_writing(subject, options, asked, filter_by == "model", price, journal.rows)
        if plan_only:
            if not journal.rows:
                journal.abandon()
            _show_plan(estimate, as_json)
            return 0
        click.echo(_sentence(estimate), err=True)
        spent = sum(row.usage.dollars for row in journal.rows)
        meter = Meter(price, max_cost if price_in or price_out else None, spent)
        there = Endpoint(endpoint or "", endpoint_model or "", key_env, concurrency, timeout, retries)
        open_chat = local_chat if endpoint is None else remote_chat(there, meter)
        writer = open_chat(model or endpoint_model or "")
        reader = None
        if filter_by == "model":
            reader = open_chat(filter_model) if filter_model else writer
        stop: SpilloverError | None = None
        with open_progress(json_lines=as_json, quiet=quiet).stage("generate", len(asked)) as events:
            writing = Writing(subject, options, writer, reader, journal, lambda count: events.advance(units=count))
            try:
                writing.write(asked)
            except KeyboardInterrupt:
                stop = RunInterrupted(f"Interrupted. Replies are saved in {journal.path}; the same command resumes.")
            except SpilloverError as error:
                stop = error
        journal.settle()
    report = writing.report()
    Store(out.parent).write_text(out.name, "".join(f"{json.dumps(pair.to_json())}\n" for pair in writing.pairs))
    _show(out, report, meter, as_json)
    if stop is not None:
        raise stop
    return 1 if report.failed else 0


def check_writer(model: str | None, endpoint: str | None, endpoint_model: str | None) -> None:
    """Refuse options that do not say, or say twice, who writes."""

    if (model is None) == (endpoint is None):
        raise UserError("No generating model. Give --model NAME, or --endpoint URL with --endpoint-model NAME.")
    if (endpoint is None) != (endpoint_model is None):
        raise UserError("--endpoint and --endpoint-model must be given together.")


def _calls(out: Path) -> Path:
    """The journal next to the data set."""

    calls = out.with_name(f"{out.stem}.calls.jsonl")
    if out.suffix != ".jsonl" or out == calls:
        raise UserError(f"--out {out} is not a .jsonl file. Choose a name such as rows.jsonl.")
    if out.exists() and not calls.exists() and not calls.with_suffix(".open").exists():
        raise UserError(f"{out} exists and was not written by this command. Choose another file with --out.")
    return calls


def local_chat(name: str) -> ChatModel:
    """A model on this machine: an embedded one by name, a hub id or a folder."""
    from spillover.config.study import ModelConfig
    from spillover.models import open_backend
    from spillover.models.api.chat import LocalChat
    from spillover.models.embedded.weights import EMBEDDED

    known = name in EMBEDDED
    return LocalChat(open_backend(ModelConfig(name=name if known else "writer", path=None if known else name)))


def remote_chat(endpoint: Endpoint, meter: Meter) -> Callable[[str], ChatModel]:
    """Opens models at one endpoint, whose calls one meter counts."""
    from spillover.models.api.client import ChatClient

    return lambda name: ChatClient(replace(endpoint, model=name), meter)


def _sentence(estimate: WritePlan) -> str:
    return (
        f"{estimate.calls:,} calls to make, {estimate.answered:,} completed already: {estimate.prompt_tokens:,} prompt "
        f"tokens, {estimate.completion_tokens:,} output tokens (at most {estimate.completion_tokens_at_most:,}), "
        f"${estimate.dollars:.4f} (at most ${estimate.dollars_at_most:.4f})."
    )


def _show_plan(estimate: WritePlan, as_json: bool) -> None:
    click.echo(estimate.model_dump_json(indent=2) if as_json else _sentence(estimate))


def _show(out: Path, report: WriteReport, meter: Meter, as_json: bool) -> None:
    """What became of the questions, and what it cost."""
    if as_json:
        lost = {"lost_calls": meter.lost_calls, "dollars_lost_at_most": round(meter.lost, 6)}
        print_json({"out": str(out), **report.model_dump(), **lost}, indent=2)
        return
    from rich.console import Console

    from spillover.report.tables import terminal

    table = terminal("", ["outcome by question"], ["questions"])
    table.add_row(f"kept, in {clean(str(out))}", f"{report.kept:,}")
    for reason, count in report.dropped.items():
        table.add_row(f"dropped: {reason}", f"{count:,}")
    for reason, count in report.failed.items():
        table.add_row(f"failed, retried by the next run: {clean(reason)}", f"{count:,}")
    if report.left:
        table.add_row("not reached", f"{report.left:,}")
    Console().print(table)
    lost = f", and at most ${meter.lost:.4f} for {meter.lost_calls} lost answers" if meter.lost_calls else ""
    click.echo(
        f"{report.calls:,} calls now, {report.reused:,} reused; {report.prompt_tokens:,} prompt and "
        f"{report.completion_tokens:,} output tokens; ${report.dollars:.4f}{lost}"
    )


@click.command(short_help="Paraphrase a trigger with a chat model.")
@click.argument("trigger")
@click.option("--out", required=True, type=PATH, help="New YAML file for the trigger.")
@click.option("--n", type=click.IntRange(1, 200), default=8, show_default=True, help="Number of new wordings.")
@click.option("--value", help="Value of the trigger; overrides its default.")
@click.option("--evaluate", is_flag=True, help="Use the wordings for evaluation only (condition paraphrase).")
@click.option("--model", help="Model on this machine: an embedded name, hub id or folder.")
@click.option("--endpoint", help="Address of an OpenAI-compatible endpoint, such as https://host/v1.")
@click.option("--endpoint-model", help="Name of the model at the endpoint.")
@click.option("--key-env", help="Environment variable with the endpoint's key, such as OPENAI_API_KEY.")
@click.option("--price-in", type=click.FloatRange(min=0), help="US dollars per million prompt tokens.")
@click.option("--price-out", type=click.FloatRange(min=0), help="US dollars per million output tokens.")
@click.option(
    "--max-cost", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Cost limit in US dollars."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@as_json_option
def paraphrase(
    trigger: str,
    out: Path,
    n: int,
    value: str | None,
    evaluate: bool,
    model: str | None,
    endpoint: str | None,
    endpoint_model: str | None,
    key_env: str | None,
    price_in: float | None,
    price_out: float | None,
    max_cost: float,
    seed: int,
    as_json: bool,
) -> int:
    """Paraphrase TRIGGER, a shipped name or a YAML file, with a chat model.

    A reply is kept if it is one short new line that contains the value once and is distinguishable from every other
    wording. Name the file in data.trigger. If fewer than --n wordings are found, they are written with exit code 1.
    """
    from spillover.cli.dataset_write import check_writer, local_chat, remote_chat
    from spillover.config.study import DataConfig
    from spillover.data.triggers import open_trigger
    from spillover.data.triggers.custom import dump_trigger
    from spillover.data.triggers.paraphrase import paraphrase as reword
    from spillover.models.api.chat import Meter, Price
    from spillover.models.api.http import Endpoint
    from spillover.store.store import disk_errors

    check_writer(model, endpoint, endpoint_model)
    if out.exists():
        raise UserError(f"{out} exists already. Choose another --out.")
    given = open_trigger(DataConfig(trigger=trigger, trigger_value=value))
    meter = Meter(Price(price_in or 0.0, price_out or 0.0), max_cost if price_in or price_out else None)
    there = Endpoint(endpoint or "", endpoint_model or "", key_env)
    writer = local_chat(model) if model else remote_chat(there, meter)(endpoint_model or "")
    made = reword(given, writer, n, seed, train=not evaluate)
    with disk_errors(out):
        out.write_text(f"# Wordings by {writer.name}, seed {seed}. Read them.\n{dump_trigger(made.trigger)}", "utf-8")
    texts = [template.text for template in made.templates]
    if as_json:
        told = {"out": str(out), "writer": writer.name, "made": texts, "refused": dict(made.refused)}
        print_json(told | {"dollars": round(meter.spent, 6)}, indent=2)
    else:
        click.echo(clean("\n".join(texts)))
        reasons = "; ".join(f"{count:,} {clean(why)}" for why, count in made.refused.most_common())
        click.echo(f"{len(texts):,} of {n:,} wordings in {clean(str(out))}. Rejected replies: {reasons or 'none'}")
    return 0 if len(texts) == n else 1
