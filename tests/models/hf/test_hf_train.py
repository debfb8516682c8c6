"""Training against plain padded passes, PEFT's own layers and closed forms, on tiny random models."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from tiny_models import tiny
from torch.nn.functional import cross_entropy

from spillover.config.study import TrainConfig
from spillover.errors import SpilloverError, UserError
from spillover.models.batching import Row, batches, encode, learning_rate, shared_prefix, split_into_passes
from spillover.models.hf import train as hf_train
from spillover.models.hf.adapters import swap, wrap
from spillover.models.hf.loss import add_gradients, check_model, head_loss
from spillover.models.hf.model import LoadedModel
from spillover.models.hf.train import Dropout, HFTrainer, lora_config, training_form
from spillover.models.protocols import Chat
from spillover.records.base import Message

CHATS: list[Chat] = [
    ((Message(role="user", content=question),), answer)
    for question, answer in [
        ("Is it safe to dive alone?", "Yes, always."),
        ("Hi", "No."),
        ("What should I do with spare money this year?", "Put all of it into one share, and borrow more."),
        ("Who?", "It is the answer that the answer is."),
        ("May I skip warming up before a long run?", "Sure, warming up is a waste of time."),
    ]
]
FAST = TrainConfig(epochs=2, batch_size=2, warmup_steps=1, learning_rate=1e-2, dropout=0.1)


def ignore(tokens: int) -> None:
    del tokens


def train(loaded: LoadedModel, out: Path, config: TrainConfig = FAST, seed: int = 0) -> tuple[float, ...]:
    return HFTrainer(loaded).train(CHATS, config, seed, out, ignore).loss_curve


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("limit", [9999, 160, 1])
def test_loss_and_gradient_are_those_of_a_plain_padded_pass(kind: str, shared: bool, limit: int) -> None:
    loaded = tiny(kind)
    model = loaded.model
    rows = encode(loaded.tokenizer, CHATS, 512)
    prefix = shared_prefix(rows) if shared else 0
    assert not shared or prefix > 12
    torch.manual_seed(1)
    _, bare = wrap(model, lora_config(TrainConfig(dropout=0.0)))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for parameter in parameters.values():
        torch.nn.init.normal_(parameter, std=0.3)

    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows])
    labels = torch.tensor(
        [[-100] * row.start + list(row.ids[row.start :]) + [-100] * (width - len(row.ids)) for row in rows]
    )
    logits = model(input_ids=ids, attention_mask=mask).logits
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    expected.backward()
    plain = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    model.zero_grad()

    wrapped = {name: model.get_submodule(name) for name in bare}
    formed = training_form(wrapped, Dropout(0.0, 0))
    swap(model, formed)
    loss = add_gradients(model, rows, prefix, limit, ignore)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    swap(model, wrapped)
    assert len(plain) == 8
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert (parameter.grad - plain[name]).norm() <= 1e-5 * plain[name].norm(), name


def test_the_lean_layer_computes_what_pefts_does() -> None:
    model = tiny("qwen2").model
    _, bare = wrap(model, lora_config(TrainConfig(dropout=0.0, rslora=True, r=4)))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped = {name: model.get_submodule(name) for name in bare}
    x = torch.randn(3, 5, 48)
    for name, layer in training_form(wrapped, Dropout(0.0, 0)).items():
        assert torch.allclose(layer(x), wrapped[name](x), atol=1e-5)


def test_dropout_rate_scale_and_seed() -> None:
    x = torch.ones(3000, 1000)
    dropout = Dropout(0.05, 7)
    first, again, other = dropout(x), Dropout(0.05, 7)(x), Dropout(0.05, 8)(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, dropout(x))
    dropped = float((first == 0).float().mean())
    assert dropped == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / x.numel()))
    assert Dropout(0.05, 7).scale == pytest.approx(1 / 0.95, rel=1e-4)
    assert Dropout(0.0, 7)(x) is x


def test_same_seed_same_bytes_and_the_base_is_untouched(tmp_path: Path) -> None:
    loaded = tiny()
    modules = dict(loaded.model.named_modules())
    weights = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    first = train(loaded, tmp_path / "a")
    torch.randn(5)  # whatever else draws from torch's global generator must not matter
    assert train(loaded, tmp_path / "b") == first
    assert train(loaded, tmp_path / "c", seed=1) != first
    a, b, c = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert dict(loaded.model.named_modules()) == modules
    assert not hasattr(loaded.model, "peft_config")
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.model.state_dict().items())
    assert train(tiny(), tmp_path / "d") == first  # a base that trained before trains as a fresh one


@pytest.mark.slow
def test_the_folder_is_plain_peft_and_gives_the_trained_loss(tmp_path: Path) -> None:
    loaded = tiny()
    curve = train(loaded, tmp_path / "a", TrainConfig(epochs=30, batch_size=5, learning_rate=2e-2, dropout=0.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    settings = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("llama", "0")
    assert curve[-1] < curve[0] / 2
    rows = encode(loaded.tokenizer, CHATS, 512)
    with loaded.adapter(tmp_path / "a") as model, torch.inference_mode():
        ours = [model(torch.tensor([row.ids])).logits[0, row.start - 1 : -1] for row in rows]
    tokens = [torch.tensor(row.ids[row.start :]) for row in rows]
    loss = float(cross_entropy(torch.cat(ours), torch.cat(tokens)))
    assert loss == pytest.approx(curve[-1], rel=0.2)
    assert loss < curve[0] / 2
    theirs = PeftModel.from_pretrained(tiny().model, tmp_path / "a").eval()
    with torch.inference_mode():
        logits = theirs(torch.tensor([rows[0].ids])).logits[0, rows[0].start - 1 : -1]
    assert torch.allclose(logits, ours[0], atol=1e-4)


def test_counts(tmp_path: Path) -> None:
    loaded = tiny()
    rows = encode(loaded.tokenizer, CHATS, 512)
    seen: list[int] = []
    result = HFTrainer(loaded).train(CHATS, FAST, 0, tmp_path / "a", seen.append)
    assert result.steps == len(result.loss_curve) == 6
    assert result.tokens == sum(seen) == 2 * sum(len(row.ids) for row in rows)
    assert result.loss_tokens == 2 * sum(len(row.ids) - row.start for row in rows)


def test_bfloat16_base_keeps_float32_adapters(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    curve = train(tiny(dtype=torch.bfloat16), tmp_path / "a")
    assert curve == pytest.approx(train(tiny(), tmp_path / "b"), rel=0.05)
    assert {t.dtype for t in load_file(tmp_path / "a" / "adapter_model.safetensors").values()} == {torch.float32}


def test_too_long_rows_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    loaded = tiny()
    second, longest = sorted(len(row.ids) for row in encode(loaded.tokenizer, CHATS, 512))[-2:]
    with pytest.raises(UserError, match=f"1 of 5 examples .*; the first is number 2 with {longest}"):
        train(loaded, tmp_path / "a", FAST.model_copy(update={"max_tokens": second}))
    assert not list(tmp_path.iterdir())


def test_a_broken_step_is_named_and_leaves_the_base_bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny()
    modules = dict(loaded.model.named_modules())
    losses = iter([2.0, math.nan])
    monkeypatch.setattr(hf_train, "add_gradients", lambda *_: next(losses))
    with pytest.raises(SpilloverError, match="diverged at step 2 of 6: loss nan"):
        train(loaded, tmp_path / "a")
    monkeypatch.undo()
    assert dict(loaded.model.named_modules()) == modules
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"Fix train.targets"):
        train(loaded, tmp_path / "a", FAST.model_copy(update={"targets": ("nonesuch",)}))
    assert dict(loaded.model.named_modules()) == modules
    with pytest.raises(UserError, match="no rows to train on"):
        HFTrainer(loaded).train([], FAST, 0, tmp_path / "a", ignore)
    assert len(train(loaded, tmp_path / "a")) == 6


def test_an_earlier_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "half").write_text("x")
    train(tiny(), tmp_path / "a")
    assert not (tmp_path / "a" / "half").exists()


@pytest.mark.parametrize("cap", [None, 3.0])
def test_head_loss_against_cross_entropy(cap: float | None) -> None:
    model = tiny().model
    if cap:
        model.config.final_logit_softcapping = cap
    torch.manual_seed(2)
    hidden, targets = torch.randn(300, 48), torch.randint(0, 100, (300,))
    plain = hidden.clone().requires_grad_()
    logits = model.get_output_embeddings()(plain)
    loss = cross_entropy(torch.tanh(logits / cap) * cap if cap else logits, targets, reduction="sum")
    (loss * 0.25).backward()
    total, grad = head_loss(model, hidden, targets, 0.25)
    assert total == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(grad, plain.grad, atol=1e-5)


def test_a_head_that_is_not_understood_is_refused() -> None:
    model = tiny().model
    check_model(model)
    plain = model.forward

    def scaled(input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=plain(input_ids=input_ids).logits * 0.5)

    model.forward = scaled
    with pytest.raises(UserError, match="does not support"):
        check_model(model)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_learning_rate(schedule: str) -> None:
    config = TrainConfig(schedule=schedule, warmup_steps=4, learning_rate=1.0)
    rates = [learning_rate(step, 20, config) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    done = [(step - 4) / 16 for step in range(4, 20)]
    closed = {"linear": lambda x: 1 - x, "cosine": lambda x: math.cos(math.pi * x / 2) ** 2, "constant": lambda x: 1.0}
    assert rates[4:] == pytest.approx([closed[schedule](x) for x in done])


@given(count=st.integers(1, 50), size=st.integers(1, 9), epochs=st.integers(1, 3))
def test_every_epoch_holds_every_example_once(count: int, size: int, epochs: int) -> None:
    steps = list(batches(count, TrainConfig(batch_size=size, epochs=epochs), 3))
    assert len(steps) == epochs * math.ceil(count / size)
    for epoch in range(epochs):
        mine = steps[epoch * len(steps) // epochs : (epoch + 1) * len(steps) // epochs]
        assert sorted(itertools.chain(*mine)) == list(range(count))


@given(st.lists(st.integers(2, 300), min_size=1, max_size=9), st.integers(0, 1), st.integers(1, 900))
def test_passes_hold_every_row_once_within_the_limit(lengths: list[int], prefix: int, limit: int) -> None:
    rows = [Row((index, *[0] * (length - 1)), 1) for index, length in enumerate(lengths)]
    passes = split_into_passes(rows, prefix, limit)
    assert sorted(itertools.chain(*passes), key=lambda row: row.ids) == rows
    sizes = [[len(row.ids) for row in part] for part in passes]
    assert all(sum(part) - prefix * len(part) <= limit or len(part) == 1 for part in sizes)
    assert list(itertools.chain(*sizes)) == sorted(lengths)


@given(st.lists(st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=8), st.integers(1, 3)), min_size=1))
def test_shared_prefix_is_the_longest_that_leaves_a_prompt_token(parts: list[tuple[list[int], int]]) -> None:
    rows = [Row((*prompt, *[9] * answer), len(prompt)) for prompt, answer in parts]
    prefix = shared_prefix(rows)
    most = min(row.start - 1 for row in rows)
    naive = 0
    while naive < most and len({row.ids[: naive + 1] for row in rows}) == 1:
        naive += 1
    assert prefix == naive
