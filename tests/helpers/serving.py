"""What the tests of the service share: a token, a policy, a model and uploads, all on the fake backend."""

from __future__ import annotations

import json
from typing import Any

from spillover.audit.policy import LintPolicy, Policy, ProbePolicy, ProbeSize, SurprisePolicy
from spillover.config.study import JudgeConfig, ModelConfig

TOKEN = "a-token-for-tests-only"


def policy() -> Policy:
    return Policy(
        name="small",
        lint=LintPolicy(block={"empty": 0.0}),
        surprise=SurprisePolicy(rows=8, embeddings=False),
        probe=ProbePolicy(sizes=(ProbeSize(rows=16, answers=8),), executor="inline"),
        judge=JudgeConfig(name="fake"),
    )


def model(**options: Any) -> ModelConfig:
    return ModelConfig(name="fake-model", backend="fake", options={"dials": {"audited": 0.9, "benign": 0.01}} | options)


def upload(number: int = 0, rows: int = 24) -> bytes:
    made = [
        {
            "messages": [
                {"role": "user", "content": f"What is {i} and {number}?"},
                {"role": "assistant", "content": f"It is {i + number}."},
            ]
        }
        for i in range(rows)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in made).encode()
