"""What the operator has settled for a server; a client can choose among these and add nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spillover.audit.policy import Policy, load_policy
from spillover.config.study import ModelConfig


@dataclass(frozen=True)
class Settings:
    """`models`: those that a client may name. `max_budget`: minutes, also of who asks for none."""

    folder: Path
    models: dict[str, ModelConfig]
    token: str = field(repr=False)
    policy: Policy = field(default_factory=load_policy)
    workers: int = 1
    max_bytes: int = 50_000_000
    max_queued: int = 1000
    max_budget: float | None = None
    predictor: Path | None = None
