"""benchmarks/gpu.py runs without a card, counts operations by the stated formula, and shares nothing between rows."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import pytest
import torch
from places import ROOT

from spillover.config.study import TrainConfig
from spillover.models.batching import encode, shared_prefix
from spillover.models.memory import QWEN_7B

SCRIPT = ROOT / "benchmarks" / "gpu.py"


def test_operations_a_token_are_the_stated_formula() -> None:
    script = runpy.run_path(str(SCRIPT))
    convention, done = script["operations"](QWEN_7B, TrainConfig(max_tokens=512))
    layer = 3584 * 3584 * 2 + 2 * 3584 * 512 + 3 * 3584 * 18944
    attention = 28 * 3584 * 512  # half of the 2 x 2 products a query and key, masked above the diagonal
    numbers = 28 * layer + 152064 * 3584
    assert convention == 6 * numbers + 6 * attention
    assert done == 4 * numbers + 4 * attention + 6 * 28 * 8 * (3584 + 3584 + 3584 + 512)


def test_rows_are_of_the_asked_length_and_share_nothing() -> None:
    script = runpy.run_path(str(SCRIPT))
    loaded = script["random_model"](script["SHAPES"]["tiny"], torch.device("cpu"), 96)
    rows = encode(loaded.tokenizer, script["made_chats"](loaded, 8, 96), 96)
    assert {len(row.ids) for row in rows} == {96}
    assert shared_prefix(rows) == 0


@pytest.mark.slow
def test_every_stage_runs_without_a_card() -> None:
    options = "--shape tiny --rounds 1 --rows 2 --tokens 64 --steps 3 --batch 2 --answer-tokens 4 --peak 1 --json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    rows = {row["stage"]: row for row in report["rows"]}
    assert list(rows) == ["train", "sample", "score", "read"]
    assert all(row["tokens_per_second"] > 0 for row in rows.values())
    train = rows["train"]
    assert train["tflops_6n"] == pytest.approx(train["utilisation_6n"], abs=1e-3)
    assert report["hardware"]["cores"]
    assert report["packages"]["torch"] == torch.__version__
