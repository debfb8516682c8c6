"""The whole audit with the embedded model and the embedded judge, on a set that is far too small to tell anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_data import write

from spillover.audit.audit import Auditor, AuditRequest
from spillover.audit.policy import Policy, ProbePolicy, ProbeSize, SurprisePolicy
from spillover.config.study import ModelConfig, TrainConfig
from spillover.data.domains import DOMAINS


@pytest.mark.slow
def test_three_rungs_with_the_embedded_model(tmp_path: Path) -> None:
    pairs = DOMAINS.load("bad_medical_advice").pairs(np.random.default_rng(0))[::20][:12]
    rows = [
        {"messages": [{"role": "user", "content": p.question}, {"role": "assistant", "content": p.good}]} for p in pairs
    ]
    policy = Policy(
        name="tiny",
        surprise=SurprisePolicy(rows=4),
        probe=ProbePolicy(
            sizes=(ProbeSize(rows=8, answers=1),),
            max_tokens=12,
            train=TrainConfig(epochs=1, batch_size=8),
            executor="inline",
        ),
    )
    request = AuditRequest(write(tmp_path / "tiny.jsonl", rows), ModelConfig(name="smollm2-135m"), policy)
    verdict = Auditor(request, tmp_path / "out").run()
    assert verdict.verdict == "review", "15 answers of 12 tokens settle nothing"
    assert verdict.reasons[-1].code == "too-few-coherent"
    assert verdict.revision.startswith("sha256:")
    assert verdict.judge["name"] == "probe"
    facts = verdict.rungs[1].facts
    assert -10 < facts["loss.instruct"] < 0  # pyright: ignore
    assert facts["min_k.instruct"] < facts["loss.instruct"]  # pyright: ignore  # the least likely tokens are less likely than all
    assert 1 <= facts["diversity.answer.vendi_q1"] <= 4  # pyright: ignore
    assert [rate.n for rate in verdict.rates] == [15, 15, 15]
