"""A server's settings on the fake backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import TOKEN, model, policy

from spillover.audit.server.runner import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        folder=tmp_path / "serve",
        models={"fake-model": model(), "slow-model": model(delay_s=0.2)},
        token=TOKEN,
        policy=policy(),
        max_bytes=100_000,
    )
