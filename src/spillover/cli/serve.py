"""`spillover serve`: the audit as a service."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--model", "models", multiple=True, help="Model that clients may choose, as for audit; repeatable.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0: any free port.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("runs/serve"), show_default=True, help="Folder of jobs."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Concurrent audits.")
@click.option(
    "--max-bytes", type=click.IntRange(min=1), default=50_000_000, show_default=True, help="Maximum bytes per upload."
)
@click.option(
    "--max-queued", type=click.IntRange(min=1), default=1000, show_default=True, help="Maximum queued audits."
)
@click.option("--max-budget", type=click.FloatRange(min=0), metavar="MINUTES", help="Maximum budget per audit.")
@click.option("--policy", type=click.Path(path_type=Path), help="YAML file of thresholds.  [default: the shipped one]")
@click.option("--predictor", type=click.Path(path_type=Path), help="JSON file of a fitted predictor.")
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

    from spillover.audit.model import read_model
    from spillover.audit.policy import load_policy
    from spillover.audit.server.settings import Settings
    from spillover.errors import MissingExtra, UserError

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
        from spillover.audit.server.server import listen
    except ImportError as error:
        raise MissingExtra.of(error.name or "fastapi", "serve") from None
    listen(settings, host, port)
    return 0
