"""The residual stream, on tiny random models of eight families: found, checked, and read over any span."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import KINDS, tiny
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from spillover.errors import UserError
from spillover.models.hf import forward_reader
from spillover.models.hf.forward_reader import HFReader
from spillover.models.hf.hooks import find_blocks
from spillover.models.hf.model import LoadedModel
from spillover.models.protocols import ANSWER, LAST_PROMPT_TOKEN, Chat, Span
from spillover.models.tokens import chat_ids
from spillover.records.base import Message

SPANS = [ANSWER, LAST_PROMPT_TOKEN, Span(0, 2), Span(-3, 1), Span(2), Span(-1000, 0), Span(40, 50), Span(-8, -4)]


def chat(question: str, answer: str) -> Chat:
    return (Message(role="user", content=question),), answer


CHATS = [
    chat("Is that it?", "the answer is that it is"),
    chat("Is that it?", "no"),
    chat("Another, and a longer question", "You are a system"),
    chat("Is that it?", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("span", SPANS)
def test_states_are_the_mean_of_the_streams_of_one_plain_pass(kind: str, span: Span) -> None:
    loaded = tiny(kind, layers=3)
    for one, reading in zip(CHATS, HFReader(loaded).read(CHATS, [3, 0, 1], None, lambda _: None, span), strict=True):
        ids, start, end = chat_ids(loaded.tokenizer, *one)
        # transformers' own list has the last block's output behind the final norm only
        kept: list[torch.Tensor] = []
        handle = loaded.blocks.blocks[-1].register_forward_hook(
            lambda _, args, out, kept=kept: kept.append(out if isinstance(out, torch.Tensor) else out[0])
        )
        with torch.no_grad():
            hidden = loaded.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        handle.remove()
        states = torch.stack([*hidden[:3], kept[0]])[[3, 0, 1], 0].numpy()
        last = end - 1 if span.stop is None else min(end - 1, start + span.stop)
        first = min(max(0, start + span.start), last - 1)
        assert reading.states_LD is not None
        np.testing.assert_allclose(reading.states_LD, states[:, first:last].mean(1), rtol=1e-4, atol=1e-4)
        norms = np.linalg.norm(states[:, first:last], axis=-1).mean(1)
        np.testing.assert_allclose(reading.norms_L, norms, rtol=1e-4)
        assert reading.tokens == end - start


def test_tokens_behind_a_span_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_reader, "_WINDOW_CHATS", 1)  # nothing is shared
    costs: dict[Span, int] = {}
    for span in (ANSWER, Span(0, 1), LAST_PROMPT_TOKEN):
        seen: list[int] = []
        list(HFReader(tiny()).read(CHATS[:1], [1], None, seen.append, span))
        costs[span] = sum(seen)
    ids, start, end = chat_ids(tiny().tokenizer, *CHATS[0])
    assert costs == {ANSWER: end - 1, Span(0, 1): start + 1, LAST_PROMPT_TOKEN: start}
    assert len(ids) == end


def test_the_stream_of_an_adapted_model_is_read(tmp_path: Path) -> None:
    handle = get_peft_model(tiny().model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    for name, parameter in handle.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    handle.save_pretrained(tmp_path)
    assert find_blocks(handle).depth == 2  # pyright: ignore[reportArgumentType]
    merged = handle.merge_and_unload()
    expected = list(
        HFReader(LoadedModel(merged, tiny().tokenizer, "m", "m", "0")).read(CHATS, [2], None, lambda _: None)
    )
    base = tiny()
    plain, found = (list(HFReader(base).read(CHATS, [2], path, lambda _: None)) for path in (None, tmp_path))
    for a, b, c in zip(expected, found, plain, strict=True):
        np.testing.assert_allclose(a.states_LD, b.states_LD, rtol=1e-4, atol=1e-4)
        assert a.states_LD is not None
        assert not np.allclose(a.states_LD, c.states_LD, atol=0.1)


def test_a_model_of_another_structure_is_refused_with_the_reason() -> None:
    short = tiny().model
    short.config.num_hidden_layers = 3
    with pytest.raises(UserError, match=r"0 lists of 3 blocks in LlamaModel.*Use a decoder"):
        find_blocks(short)
    jumping = tiny("gpt2").model
    jumping.transformer.h[1].register_forward_pre_hook(lambda _, args: (args[0] + 1, *args[1:]))
    with pytest.raises(UserError, match="do not sum to the last block's output"):
        find_blocks(jumping)
    double = tiny().model
    double.model.norm = nn.Sequential(double.model.norm, nn.Linear(48, 48))
    assert find_blocks(double).depth == 2  # a final norm may be of several parts
    shared = tiny().model
    shared.model.layers[1] = shared.model.layers[0]
    with pytest.raises(UserError, match="do not run once each"):
        find_blocks(shared)
    projected = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("opt", vocab_size=99, hidden_size=48, word_embed_proj_dim=24, num_hidden_layers=2,
                             num_attention_heads=4, ffn_dim=64, max_position_embeddings=64)
    )  # fmt: skip
    with pytest.raises(UserError, match="not a final norm"):
        find_blocks(projected)


def test_a_visitor_may_change_the_stream_and_leaves_no_hook() -> None:
    loaded, ids = tiny("gpt_neox"), torch.tensor([[1, 2, 3]])
    blocks = loaded.blocks
    with torch.no_grad():
        plain = loaded.model(ids).logits
        with pytest.raises(ZeroDivisionError), blocks.visited([0, 2], lambda layer, x: x * 0 + 1 / 0):
            loaded.model(ids)
        assert torch.equal(loaded.model(ids).logits, plain)
        with blocks.visited([0], lambda layer, x: x + 1):
            raised = loaded.model(ids).logits
        embedded = loaded.model.get_input_embeddings()(ids)
        assert torch.allclose(raised, loaded.model(inputs_embeds=embedded + 1).logits, atol=1e-5)
        with blocks.visited([2], lambda layer, x: x * 0):
            zero = loaded.model(ids).logits
        norm = loaded.model.gpt_neox.final_layer_norm
        assert torch.allclose(zero, loaded.model.lm_head(norm.bias))
