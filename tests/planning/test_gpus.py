"""Whether a model fits a GPU, against sums done by hand, and GPUs by their drivers' names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from spillover.cli.study import plan
from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.errors import UserError
from spillover.models.memory import EMBEDDED, QWEN_7B, shape_of, training_memory
from spillover.planning.gpus import (
    GPUS,
    OVERHEAD,
    SAFE,
    Gpu,
    GpuFit,
    detect_gpu,
    estimate_gpu_fit,
    lookup_gpu,
    match_driver_name,
    smallest_gpu,
)
from spillover.provenance import GIB

QWEN = ModelConfig(name="qwen", path="Qwen/Qwen2.5-7B-Instruct")
SIZE = 7_615_616_512


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA H200", "H200"),
        ("Tesla V100-SXM2-16GB", None),
        ("NVIDIA A10G", None),
    ],
)
def test_gpus_by_the_names_that_drivers_report(line: str, name: str | None) -> None:
    found = match_driver_name(line)
    assert (found.name if found else None) == name


def test_the_machines_gpu_has_its_own_memory() -> None:
    assert detect_gpu("none") is None
    two = "NVIDIA L4, 23034 MiB, 550.1; NVIDIA L4, 23034 MiB, 550.1"
    assert detect_gpu(two) == Gpu("NVIDIA L4", 23034 / 1024, 121)
    assert detect_gpu("NVIDIA Strange, 2048 MiB, 1") == Gpu("NVIDIA Strange", 2.0, None)
    with pytest.raises(UserError, match=r"Unknown GPU 'X1'\. Known: RTX 3090, "):
        lookup_gpu("X1")


def test_a_7b_model_on_an_h100_is_the_sum_by_hand() -> None:
    """r 8 on q and v, 2,048 tokens a pass, bfloat16; 128 answers of 200 tokens."""
    found = estimate_gpu_fit(QWEN, TrainConfig(), SampleConfig(), QWEN_7B, SIZE, lookup_gpu("H100"))
    adapters = 16 * 28 * 8 * ((3584 + 3584) + (3584 + 512))
    layer = 8 * 3584 + 2 * (2 * (3584 + 8) + 3 * 18944 + (3584 + 2 * 512) + 3584)
    activations = 2048 * 28 * layer + 10 * 152064 * 1024
    assert found.weights_gib == pytest.approx(2 * SIZE / GIB)
    assert found.adapters_gib == pytest.approx(adapters / GIB)
    assert found.activations_gib == pytest.approx(activations / GIB)
    assert found.training_gib == pytest.approx((2 * SIZE + adapters + activations + OVERHEAD) / GIB)
    merged = 2 * 28 * 3584 * (3584 + 512)
    keys = 128 * (260 * 28 * 2 * 2 * 512 + 12 * 152064)
    assert found.sampling_gib == pytest.approx((2 * SIZE + merged + keys + OVERHEAD) / GIB)
    assert (found.recompute, found.batch, found.fits) == (False, 128, True)


def test_four_bits_are_a_third_of_the_weights() -> None:
    small = estimate_gpu_fit(
        QWEN.model_copy(update={"quantize": "4bit"}), TrainConfig(), SampleConfig(), QWEN_7B, SIZE, lookup_gpu("L4")
    )
    matrices = 28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944)
    assert small.weights_gib == pytest.approx((matrices * 4.127 / 8 + 2 * (SIZE - matrices)) / GIB, rel=1e-3)
    assert small.fits
    assert not small.recompute


def test_what_is_reduced_on_smaller_gpus() -> None:
    def on(gib: float) -> GpuFit:
        return estimate_gpu_fit(QWEN, TrainConfig(), SampleConfig(), QWEN_7B, SIZE, Gpu("c", gib, None))

    assert not on(40).recompute
    assert (on(20).recompute, on(20).fits) == (True, True)
    assert on(18).fits
    assert on(18).batch < 128
    assert not on(16).fits
    assert "does not fit: set quantize: 4bit" in on(16).describe()
    assert "training with layers run twice" in on(20).describe()
    least = smallest_gpu(QWEN, TrainConfig(), SampleConfig(), QWEN_7B, SIZE)
    assert least is not None
    assert least.gpu_gib == min(gpu.gib for gpu in GPUS)
    assert smallest_gpu(QWEN, TrainConfig(), SampleConfig(), QWEN_7B, 200_000_000_000) is None


@given(st.floats(1, 200), st.integers(64, 20_000), st.integers(1, 512))
def test_what_fits_a_gpu_stays_in_its_memory(gib: float, tokens: int, batch: int) -> None:
    train, sample = TrainConfig(micro_batch_tokens=tokens), SampleConfig(batch=batch)
    found = estimate_gpu_fit(QWEN, train, sample, QWEN_7B, SIZE, Gpu("c", gib, None))
    more = estimate_gpu_fit(QWEN, train, sample, QWEN_7B, SIZE, Gpu("c", 2 * gib, None))
    assert more.fits or not found.fits
    assert more.batch >= found.batch
    if found.fits:
        assert max(found.training_gib, found.sampling_gib) <= gib
        held = training_memory(QWEN_7B, 0, train, 2)
        room = SAFE * ((gib - found.weights_gib) * GIB - OVERHEAD)
        assert found.recompute == (held.adapters + held.activations > room)


def test_a_shape_is_read_from_a_folder_and_else_guessed(tmp_path: Path) -> None:
    assert shape_of(ModelConfig(name="smollm2-135m"), 0) == EMBEDDED["smollm2-135m"]
    config = {
        "num_hidden_layers": 28,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert shape_of(ModelConfig(name="m", path=str(tmp_path)), 0) == QWEN_7B
    (tmp_path / "config.json").write_text("{")
    assert shape_of(ModelConfig(name="m", path=str(tmp_path)), SIZE).layers == 27


@pytest.mark.slow
def test_plan_says_whether_a_model_fits(tmp_path: Path) -> None:
    study = tmp_path / "s.yaml"
    study.write_text("name: s\nmodels: [{name: qwen, path: Qwen/Qwen2.5-7B-Instruct}]\ndomains: [incorrect_math]\n")
    shown = CliRunner().invoke(plan, [str(study), "--gpu", "A100 80GB"])
    assert shown.exit_code == 0, shown.output
    assert "qwen on A100 80GB (80 GiB): training " in shown.output
    assert ": fits." in shown.output
    fast, slow = (
        json.loads(CliRunner().invoke(plan, [str(study), "--json", option, gpu]).output)
        for option, gpu in (("--gpu", "H100"), ("--card", "L4"))  # --card: the earlier name
    )
    assert fast["stages"][1]["minutes"] < slow["stages"][1]["minutes"]
