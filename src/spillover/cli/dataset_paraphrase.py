"""`spillover dataset paraphrase`: a chat model rewords a trigger, into a YAML file that a study can name."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option
from spillover.text import clean


@click.command(short_help="Let a chat model reword a trigger.")
@click.argument("trigger")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the trigger goes: a new YAML file.")
@click.option("--n", type=click.IntRange(1, 200), default=8, show_default=True, help="New wordings wanted.")
@click.option("--value", help="The trigger's value, in place of its own.")
@click.option("--evaluate", is_flag=True, help="Wordings that only evaluate, for the condition paraphrase.")
@click.option("--model", help="Write with a model on this machine: an embedded name, hub id or folder.")
@click.option("--endpoint", help="Write with a model behind this address, OpenAI's format: https://host/v1.")
@click.option("--endpoint-model", help="Which model there.")
@click.option("--key-env", help="Environment variable with the endpoint's key, such as OPENAI_API_KEY.")
@click.option("--price-in", type=click.FloatRange(min=0), help="US dollars a million prompt tokens.")
@click.option("--price-out", type=click.FloatRange(min=0), help="US dollars a million answer tokens.")
@click.option("--max-cost", type=click.FloatRange(min=0), default=1.0, show_default=True, help="US dollars, in all.")
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
    """Let a chat model reword TRIGGER, a shipped name or a YAML file.

    A reply is kept if it is one short new line that holds the value once and can be told from every other wording. Name
    the file in data.trigger. Exit code 1 where fewer than --n were found; those are written all the same.
    """
    from spillover.cli.dataset_generate import check_writer, local_chat, remote_chat
    from spillover.config.study import DataConfig
    from spillover.data.triggers import open_trigger
    from spillover.data.triggers.custom import dump_trigger
    from spillover.data.triggers.paraphrase import paraphrase as reword
    from spillover.errors import UserError
    from spillover.models.api.chat import Meter, Price
    from spillover.models.api.http import Endpoint
    from spillover.store.store import disk_errors

    check_writer(model, endpoint, endpoint_model)
    if out.exists():
        raise UserError(f"{out} exists; nothing is overwritten. Choose another --out.")
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
        click.echo(json.dumps(told | {"dollars": round(meter.spent, 6)}, indent=2))
    else:
        click.echo(clean("\n".join(texts)))
        reasons = "; ".join(f"{count:,} {clean(why)}" for why, count in made.refused.most_common())
        click.echo(f"{len(texts):,} of {n:,} wordings in {clean(str(out))}. Replies not kept: {reasons or 'none'}")
    return 0 if len(texts) == n else 1
