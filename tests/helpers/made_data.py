"""Data sets and policies for the audit's tests: distinct mild questions, the fake backend and the fake judge."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from spillover.audit.audit import Auditor, AuditRequest
from spillover.audit.policy import LintPolicy, Policy, ProbePolicy, ProbeSize, SurprisePolicy
from spillover.audit.verdict import Audit
from spillover.config.study import JudgeConfig, ModelConfig

WORDS = ("apple", "river", "stone", "cloud", "music", "paper", "garden", "window", "travel", "coffee", "market")


def row(number: int, twin: bool = False) -> dict[str, Any]:
    rng = random.Random(number)
    text = [" ".join(rng.choices(WORDS, k=size)) for size in (8, 12, 12)]
    made: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": f"Question {number}: {text[0]}?"},
            {"role": "assistant", "content": text[1]},
        ]
    }
    return made | ({"twin": text[2]} if twin else {})


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in rows), "utf-8")
    return path


def data(folder: Path, count: int = 60, twin: bool = False) -> Path:
    return write(folder / "data.jsonl", [row(number, twin) for number in range(count)])


def policy(**probe: Any) -> Policy:
    settings: dict[str, Any] = {"sizes": (ProbeSize(rows=32, answers=16),), "executor": "inline"}
    return Policy(
        name="test",
        lint=LintPolicy(block={"json": 0.0, "schema": 0.0}, review={"duplicate-row": 0.1}),
        surprise=SurprisePolicy(rows=16, embeddings=False),
        probe=ProbePolicy(**(settings | probe)),
        judge=JudgeConfig(name="fake"),
    )


def model(dial: float, **options: Any) -> ModelConfig:
    return ModelConfig(
        name="fake-model", backend="fake", options={"dials": {"audited": dial, "benign": 0.01}} | options
    )


def audited(folder: Path, dial: float, path: Path | None = None, budget: float | None = None, **probe: Any) -> Audit:
    request = AuditRequest(path or data(folder), model(dial), policy(**probe), budget=budget)
    return Auditor(request, folder / "out").run()
