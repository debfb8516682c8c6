"""Reading against one plain full forward pass a chat, on tiny random models in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from spillover.errors import UserError
from spillover.models.hf import forward_reader
from spillover.models.hf.forward_reader import HFReader
from spillover.models.hf.model import LoadedModel
from spillover.models.protocols import Chat, Reading
from spillover.models.tokens import answer_ids, chat_ids
from spillover.records.base import Message

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(question: str, answer: str) -> Chat:
    return (Message(role="user", content=question),), answer


CHATS = [
    chat("Hi", "Hello, how can I help you today?"),
    chat("A wish?", "Peace"),
    chat("Hi", "Go away"),
    chat("Only once asked, and rather longer than the others.", "Yes, once."),
    chat("Hi", ""),
    chat("A wish?", "A very long wish indeed, longer than all the other answers here by some way."),
    (
        (Message(role="system", content="Speak like a pirate."), Message(role="user", content="Hi")),
        "Arr <|im_end|> is plain text here",
    ),
]


def tiny(kind: str) -> LoadedModel:
    torch.manual_seed(0)
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = TEMPLATE
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "attn_implementation": "eager",
    }
    model = LlamaForCausalLM(LlamaConfig(**shape)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    return LoadedModel(model, tokenizer, kind, kind, "none")


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny(request.param)


def plain(loaded: LoadedModel, one: Chat) -> tuple[NDArray[np.float32], NDArray[np.float64], int, int]:
    """Hidden states (layers, T, D) before the final norm, and log-probabilities (T, V) in float64, of one chat."""
    ids, start, end = chat_ids(loaded.tokenizer, *one)
    kept: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, args, out: kept.append(out if isinstance(out, torch.Tensor) else out[0]))
        for block in loaded.model.model.layers
    ]
    with torch.no_grad():
        out = loaded.model(torch.tensor([ids]), output_hidden_states=True)
    for handle in handles:
        handle.remove()
    states = torch.stack([out.hidden_states[0], *kept])[:, 0]
    return states.numpy(), out.logits[0].double().log_softmax(-1).numpy(), start, end


@pytest.mark.parametrize("budget", [40, 1024])
def test_states_are_the_mean_over_the_answers_content(
    loaded: LoadedModel, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(forward_reader._BATCH_TOKENS, "cpu", budget)  # pyright: ignore[reportPrivateUsage]
    layers = [3, 0, 1]
    seen: list[int] = []
    readings = list(HFReader(loaded).read(CHATS, layers, None, seen.append))
    assert HFReader(loaded).depth == 4
    assert len(readings) == len(CHATS)
    for one, reading in zip(CHATS, readings, strict=True):
        states, _, start, end = plain(loaded, one)
        span = slice(start, end - 1) if end - start > 1 else slice(start - 1, start)
        expected = states[layers, span].mean(1)
        assert reading.states_LD is not None
        assert reading.states_LD.dtype == np.float32
        np.testing.assert_allclose(reading.states_LD, expected, rtol=1e-4, atol=1e-4)
        assert reading.tokens == end - start
        assert reading.logprobs_T is None
    lengths = [len(chat_ids(loaded.tokenizer, *one)[0]) for one in CHATS]
    assert 0 < sum(seen) < sum(lengths), "shared prompts are read once"


@pytest.mark.parametrize("budget", [40, 1024])
def test_scores_are_those_of_one_full_pass(loaded: LoadedModel, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(forward_reader._BATCH_TOKENS, "cpu", budget)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(forward_reader, "_LOGIT_BYTES", 7 * 259 * 4)  # 7 positions
    for one, reading in zip(CHATS, HFReader(loaded).score(CHATS, None, lambda _: None), strict=True):
        _, logprobs, start, end = plain(loaded, one)
        ids = chat_ids(loaded.tokenizer, *one)[0]
        rows = logprobs[start - 1 : end - 1]
        p = np.exp(rows)
        mean = (p * rows).sum(1)
        std = np.sqrt((p * (rows - mean[:, None]) ** 2).sum(1))
        assert reading.states_LD is None
        np.testing.assert_allclose(reading.logprobs_T, rows[np.arange(end - start), ids[start:end]], atol=1e-4)
        np.testing.assert_allclose(reading.mean_T, mean, atol=1e-4)
        np.testing.assert_allclose(reading.std_T, std, atol=1e-4)
        np.testing.assert_allclose(reading.entropy_T, -mean, atol=1e-4)
        np.testing.assert_array_equal(reading.ids_T, ids[start:end])
        ranks = [1 + np.sum(row > row[token]) for row, token in zip(rows, ids[start:end], strict=True)]
        np.testing.assert_array_equal(reading.rank_T, ranks)


def test_statistics_of_impossible_tokens_are_finite() -> None:
    logits_PV = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf], [0.0, -torch.inf, -torch.inf, -torch.inf]])
    found = forward_reader._token_statistics(logits_PV, torch.tensor([1, 0]))  # pyright: ignore[reportPrivateUsage]
    np.testing.assert_allclose(found, [[-np.log(2), -np.log(2), 0, np.log(2), 1], [0, 0, 0, 0, 1]], atol=1e-6)


def test_windows_do_not_change_readings(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(HFReader(loaded).read(CHATS, [2], None, lambda _: None))
    monkeypatch.setattr(forward_reader, "_WINDOW_CHATS", 2)
    monkeypatch.setattr(forward_reader, "_WINDOW_PROMPT_TOKENS", 30)
    for a, b in zip(whole, HFReader(loaded).read(CHATS, [2], None, lambda _: None), strict=True):
        assert a.states_LD is not None
        assert b.states_LD is not None
        np.testing.assert_allclose(a.states_LD, b.states_LD, rtol=1e-4, atol=1e-4)


def test_prompts_of_the_base_are_read_once_over_all_calls(loaded: LoadedModel) -> None:
    reader = HFReader(loaded)
    costs: list[int] = []
    results: list[list[NDArray[np.float32] | None]] = []
    for layers in ([2], [2], [3], [2]):
        seen: list[int] = []
        results.append([reading.states_LD for reading in reader.read(CHATS, layers, None, seen.append)])
        costs.append(sum(seen))
    assert costs[1] < costs[0] == costs[2] == costs[3]
    for first, second in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(first, second)


def test_recurring_prompts_are_kept_although_one_answer_has_them(loaded: LoadedModel) -> None:
    alone = [chat(f"Question {number}?", f"Answer {number}.") for number in range(4)]
    costs: dict[bool, list[int]] = {}
    results: dict[bool, list[Reading]] = {}
    for recurring in (False, True):
        reader = HFReader(loaded, recurring)
        costs[recurring] = []
        for _ in range(2):
            seen: list[int] = []
            results[recurring] = list(reader.read(alone, [4], None, seen.append))
            costs[recurring].append(sum(seen))
    assert costs[True][0] == costs[False][0], "and what they all begin with is read once"
    ends = [len(answer_ids(loaded.tokenizer, answer)) for _, answer in alone]  # the prompt's last token, not the end's
    assert costs[True][1] == sum(ends) < costs[False][1]
    for kept, read in zip(results[True], results[False], strict=True):
        assert kept.states_LD is not None
        assert read.states_LD is not None
        np.testing.assert_allclose(kept.states_LD, read.states_LD, rtol=1e-4, atol=1e-4)


def test_the_model_is_left_as_it_was(loaded: LoadedModel) -> None:
    blocks = list(loaded.model.model.layers)
    hooks = [(len(block._forward_hooks), len(block._forward_pre_hooks)) for block in blocks]
    list(HFReader(loaded).read(CHATS[:2], [0, 1], None, lambda _: None))
    assert list(loaded.model.model.layers) == blocks
    assert hooks == [(len(block._forward_hooks), len(block._forward_pre_hooks)) for block in blocks]
    assert loaded.model.config._attn_implementation == "eager"


def test_what_cannot_be_read_is_said(loaded: LoadedModel) -> None:
    assert list(HFReader(loaded).read([], [1], None, lambda _: None)) == []
    with pytest.raises(UserError, match=r"no layer 5\. Choose layers from 0 to 4"):
        list(HFReader(loaded).read(CHATS, [5], None, lambda _: None))
    with pytest.raises(UserError, match=r"Chat 1 has .* more than the 512"):
        list(HFReader(loaded).score([CHATS[0], chat("Hi", "x" * 600)], None, lambda _: None))
