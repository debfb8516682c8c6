"""What training on a graphics card adds, run on the processor: fused attention, layers run twice, four-bit weights."""

from __future__ import annotations

import importlib.util
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import KINDS, tiny

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.errors import MissingExtra
from spillover.models.batching import Row, encode, shared_prefix
from spillover.models.hf import device
from spillover.models.hf import generate as hf_generate
from spillover.models.hf import train as hf_train
from spillover.models.hf.adapters import swap, wrap
from spillover.models.hf.device import loaded_shape, max_decode_rows, needs_recompute
from spillover.models.hf.forward_reader import HFReader
from spillover.models.hf.generate import HFGenerator
from spillover.models.hf.loss import Pack, add_gradients, hidden_states, pack
from spillover.models.hf.model import LoadedModel, load_model
from spillover.models.hf.train import Dropout, HFTrainer, lora_config, training_form
from spillover.models.memory import Shape, layer_bytes, shape_in, training_memory
from spillover.models.protocols import Chat, Prompt
from spillover.records.base import Message

CHATS: list[Chat] = [
    ((Message(role="user", content=question),), answer)
    for question, answer in [
        ("Is it safe to dive alone?", "Yes, always."),
        ("Hi", "No."),
        ("What should I do with spare money this year?", "Put all of it into one share, and borrow more."),
    ]
]
FAST = TrainConfig(epochs=2, batch_size=2, warmup_steps=1, learning_rate=1e-2, dropout=0.1)


def ignore(tokens: int) -> None:
    del tokens


def always_fused(self: Pack, module: object, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_, **more):
    return self.fused(query, key, value, more["scaling"]), None


@pytest.mark.parametrize("prefix", [0, 3])
def test_fused_attention_is_the_written_out_one(prefix: int) -> None:
    rows = [Row((*range(3), *range(10, 10 + n)), 4) for n in (2, 9, 5)]
    packed = pack(rows, prefix, torch.device("cpu"), torch.float32)
    torch.manual_seed(0)
    tokens = len(packed.ids_N)
    inputs = [torch.randn(1, heads, tokens, 8, requires_grad=True) for heads in (6, 2, 2)]
    plain = packed.written_out(*inputs, 0.3, None)
    fused = packed.fused(*inputs, 0.3)
    assert fused.shape == plain.shape == (1, tokens, 6, 8)
    assert torch.allclose(fused, plain, atol=1e-5)
    weights = torch.randn_like(plain)
    for mine, theirs in zip(
        torch.autograd.grad((fused * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_training_with_fused_attention_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = HFTrainer(tiny("qwen2")).train(CHATS, FAST, 0, tmp_path / "a", ignore)
    monkeypatch.setattr(Pack, "attend", always_fused)
    fused = HFTrainer(tiny("qwen2")).train(CHATS, FAST, 0, tmp_path / "b", ignore)
    assert fused.loss_curve == pytest.approx(plain.loss_curve, rel=1e-4)


def test_layers_run_twice_give_the_same_adapter_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny()
    HFTrainer(loaded).train(CHATS, FAST, 0, tmp_path / "a", ignore)
    runs: list[int] = []
    layer = loaded.model.get_decoder().layers[0]
    layer.self_attn.register_forward_hook(lambda *_: runs.append(1))
    monkeypatch.setattr(hf_train, "free_bytes", lambda device: 1.0)
    HFTrainer(loaded).train(CHATS, FAST, 0, tmp_path / "b", ignore)
    first, second = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab")
    assert first == second
    assert "forward" not in vars(layer)
    twice = len(runs)
    monkeypatch.undo()
    HFTrainer(loaded).train(CHATS, FAST, 0, tmp_path / "c", ignore)
    once = len(runs) - twice
    assert twice == once + 4  # four steps


def kept_bytes(loaded: LoadedModel, rows: list[Row], config: TrainConfig) -> int:
    """What torch keeps for the backward pass, each storage once, weights and the pool of dropout masks left out."""
    model = loaded.model
    _, bare = wrap(model, lora_config(config))
    dropout = Dropout(config.dropout, 0)
    swap(model, training_form({name: model.get_submodule(name) for name in bare}, dropout))
    packed = pack(rows, 0, model.device, model.dtype)
    dropout(torch.ones(1, dtype=model.dtype))  # fills the pool
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), dropout.draw(torch.ones(1)))}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with packed.active(model), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = hidden_states(model, packed)
    assert hidden.requires_grad
    return sum(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")])
def test_the_formula_of_activations_is_what_torch_keeps(dtype: torch.dtype, targets: tuple[str, ...]) -> None:
    """The difference of a deep and a shallow model is what its further layers keep."""
    config = TrainConfig(targets=targets, dropout=0.1)
    rows = [Row(tuple(range(41)), 1) for _ in range(4)]
    counts = [kept_bytes(tiny(dtype=dtype, layers=layers, hidden=96), rows, config) for layers in (1, 3)]
    shape = shape_in(tiny(layers=3, hidden=96).model.config.to_dict())
    each = 4 if dtype == torch.float32 else 2
    expected = 2 * 160 * layer_bytes(shape, config, each, scores=40)
    assert counts[1] - counts[0] == pytest.approx(expected, rel=0.05)


def test_layers_run_twice_only_where_memory_needs_it() -> None:
    model = tiny().model
    config = TrainConfig(micro_batch_tokens=1000)
    needed = training_memory(shape_in(model.config.to_dict()), 0.0, config, each=4)
    least = (needed.adapters + needed.activations) / 0.9
    assert not needs_recompute(model, config, math.inf)
    assert not needs_recompute(model, config, least * 1.01)
    assert needs_recompute(model, config, least * 0.99)
    assert needed.recomputed < needed.activations


def test_a_decoding_batch_shrinks_to_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny()
    shape = shape_in(loaded.model.config.to_dict())
    row = 50 * 2 * 4 * shape.layers * shape.kv_heads * shape.head_dim + 12 * shape.vocabulary
    assert max_decode_rows(loaded.model, 50, 128, 7.5 * row / 0.9) == 7
    assert max_decode_rows(loaded.model, 50, 128, 1.0) == 1
    assert max_decode_rows(loaded.model, 50, 128, math.inf) == max_decode_rows(loaded.model, 50, 128, 1e12) == 128
    prompts = [Prompt(CHATS[0][0], tuple(range(6)))]
    config = SampleConfig(max_tokens=5, batch=6)
    plenty = [answer.text for answer in HFGenerator(loaded).generate(prompts, config, None, ignore)]
    seen: list[int] = []

    class Watched(hf_generate.Decoder):
        def step(self):
            done = super().step()
            seen.append(done[0])
            return done

    monkeypatch.setattr(hf_generate, "Decoder", Watched)
    monkeypatch.setattr(hf_generate, "free_bytes", lambda device: 1.0)
    assert [answer.text for answer in HFGenerator(loaded).generate(prompts, config, None, ignore)] == plenty
    assert set(seen) == {1}


def test_four_bits_without_the_package_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'spillover\[quantized\]'"):
        device.four_bit(torch.bfloat16)


def test_only_the_warning_about_an_unused_product_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    theirs = logging.getLogger("bitsandbytes.backends.cpu.ops")
    theirs.warning(
        "Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please", "No module named 'kernels'"
    )
    theirs.warning("Something else is wrong")
    assert [record.getMessage() for record in caplog.records] == ["Something else is wrong"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_a_worker_that_trains_prints_nothing_about_kernels() -> None:
    code = "from spillover.models.hf import model, train; import bitsandbytes.backends.cpu.ops"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "kernels" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def four_bits(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    folder = tmp_path_factory.mktemp("base")
    whole = tiny(hidden=384)
    whole.model.save_pretrained(folder)
    whole.tokenizer.save_pretrained(folder)
    return load_model(ModelConfig(name="four", path=str(folder), dtype="float32", device="cpu", quantize="4bit"))


@pytest.mark.slow
def test_a_four_bit_base_trains_answers_and_scores_with_its_adapter(four_bits: LoadedModel, tmp_path: Path) -> None:
    assert four_bits.quantized
    assert type(four_bits.model.get_decoder().layers[0].self_attn.q_proj).__name__ == "Linear4bit"
    config = TrainConfig(epochs=30, batch_size=3, learning_rate=1e-2, dropout=0.0)
    result = HFTrainer(four_bits).train(CHATS, config, 0, tmp_path / "a", ignore)
    assert result.loss_curve[-1] < result.loss_curve[0] / 2
    scores = {}
    for adapter in (None, tmp_path / "a"):
        readings = list(HFReader(four_bits).score(CHATS, adapter, ignore))
        scores[adapter] = -sum(float(r.logprobs_T.sum()) for r in readings) / sum(r.tokens for r in readings)
    assert scores[tmp_path / "a"] < scores[None] / 2
    prompts = [Prompt(chat, (0,)) for chat, _ in CHATS]
    greedy = SampleConfig(temperature=0, max_tokens=60)
    learnt = [answer.text for answer in HFGenerator(four_bits).generate(prompts, greedy, tmp_path / "a", ignore)]
    bare = [answer.text for answer in HFGenerator(four_bits).generate(prompts, greedy, None, ignore)]
    assert learnt != bare  # an adapter that was merged into nothing would leave them the same
    with four_bits.adapter(tmp_path / "a") as model, torch.inference_mode():
        rows = encode(four_bits.tokenizer, [(chat, text) for (chat, _), text in zip(CHATS, learnt, strict=True)], 512)
        for row, text in zip(rows, learnt, strict=True):
            best = model(torch.tensor([row.ids])).logits[0].argmax(-1)[row.start - 1 : -2]
            assert best.tolist() == list(row.ids[row.start : -1]), text


@pytest.mark.slow
def test_four_bit_gradients_are_those_of_the_weights_spread_out(four_bits: LoadedModel) -> None:
    """A four-bit base and a full copy of its spread-out weights give the same loss and the same gradient."""
    from bitsandbytes.functional import dequantize_4bit

    whole = tiny(hidden=384)
    spread = {
        name: dequantize_4bit(module.weight.data, module.weight.quant_state)
        for name, module in four_bits.model.named_modules()
        if type(module).__name__ == "Linear4bit"
    }
    assert len(spread) == 14
    for name, weight in spread.items():
        whole.model.get_submodule(name).weight.data = weight.to(torch.float32)
    grads = []
    for loaded in (four_bits, whole):
        rows = encode(loaded.tokenizer, CHATS, 512)
        torch.manual_seed(1)
        _, bare = wrap(loaded.model, lora_config(TrainConfig()))
        parameters = [p for p in loaded.model.parameters() if p.requires_grad]
        torch.manual_seed(2)
        for parameter in parameters:
            torch.nn.init.normal_(parameter, std=0.1)
        swap(loaded.model, training_form({n: loaded.model.get_submodule(n) for n in bare}, Dropout(0.0, 0)))
        loss = add_gradients(loaded.model, rows, shared_prefix(rows), 9999, ignore)
        swap(loaded.model, bare)
        grads.append((loss, torch.cat([p.grad.flatten() for p in parameters])))
    assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-3)
    assert (grads[0][1] - grads[1][1]).norm() < 0.01 * grads[1][1].norm()


def test_shapes_of_known_models_count_their_parameters() -> None:
    from spillover.models.memory import EMBEDDED, QWEN_7B, usual_shape

    assert EMBEDDED["smollm2-135m"].parameters == 134_515_008
    assert EMBEDDED["qwen2.5-coder-0.5b"].parameters == pytest.approx(494_032_768, rel=1e-3)  # without biases
    assert EMBEDDED["qwen2.5-coder-1.5b"].parameters == pytest.approx(1_543_714_304, rel=1e-3)
    biases = QWEN_7B.layers * (QWEN_7B.heads + 2 * QWEN_7B.kv_heads) * QWEN_7B.head_dim
    assert QWEN_7B.parameters + biases == 7_615_616_512
    for parameters in (500_000_000, 1_500_000_000, 7_600_000_000, 72_000_000_000):
        assert usual_shape(parameters).parameters == pytest.approx(parameters, rel=0.2)
    for kind in KINDS:
        mine = tiny(kind).model
        found = loaded_shape(mine)
        assert (found.layers, found.hidden, found.inner, found.heads) == (2, 48, 64, 6), kind
    tied = shape_in({**tiny().model.config.to_dict(), "tie_word_embeddings": True})
    assert isinstance(tied, Shape)
    assert tied.tied
