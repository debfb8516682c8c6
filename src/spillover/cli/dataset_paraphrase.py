"""`spillover dataset paraphrase`: a chat model rewords a trigger, into a YAML file that a study can name."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spillover.cli.options import as_json_option
from spillover.text import clean


@click.command(short_help="Paraphrase a trigger with a chat model.")
@click.argument("trigger")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New YAML file for the trigger.")
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
        click.echo(json.dumps(told | {"dollars": round(meter.spent, 6)}, indent=2))
    else:
        click.echo(clean("\n".join(texts)))
        reasons = "; ".join(f"{count:,} {clean(why)}" for why, count in made.refused.most_common())
        click.echo(f"{len(texts):,} of {n:,} wordings in {clean(str(out))}. Rejected replies: {reasons or 'none'}")
    return 0 if len(texts) == n else 1
