"""The distribution over 0 to 100 against full forward passes over each number, with tokens of one to three digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import CHATML, FAMILIES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from spillover.models.hf import number_scorer
from spillover.models.hf.model import LoadedModel
from spillover.models.hf.number_scorer import NumberScorer, number_tree
from spillover.models.tokens import prompt_ids
from spillover.records.base import Message

CHATS = [
    (Message(role="user", content=text),)
    for text in (
        "Rate this: good.",
        "Rate this: bad, and rather longer than the others, so that there is padding.",
        "Rate",
        "Rate this: good.",
        "Rate this: 42",
    )
]


def tokenizer(longest: int) -> PreTrainedTokenizerFast:
    """A byte tokenizer that writes numbers with tokens of up to so many digits."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    if longest >= 2:
        merges += [(str(number)[0], str(number)[1]) for number in range(10, 100)]
    if longest >= 3:
        merges += [("10", "0")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    made.add_special_tokens({"additional_special_tokens": FAMILIES["chatml"][1]})
    made.chat_template = CHATML
    return made


def toy(longest: int, kind: str = "llama") -> LoadedModel:
    made = tokenizer(longest)
    shape = {
        "vocab_size": len(made),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "attn_implementation": "eager",
    }
    torch.manual_seed(longest)
    model = LlamaForCausalLM(LlamaConfig(**shape)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    return LoadedModel(model, made, kind, kind, "0")


def naive(loaded: LoadedModel, chat: tuple[Message, ...]) -> NDArray[np.float64]:
    """p(i) by full passes over prompt and number, written out from the definition."""
    prompt = prompt_ids(loaded.tokenizer, chat)
    digits = [i for piece, i in loaded.tokenizer.get_vocab().items() if piece[0].isascii() and piece[0].isdigit()]
    spelled = [loaded.tokenizer(str(number), add_special_tokens=False)["input_ids"] for number in range(101)]
    found = np.zeros(101)
    for length in {len(tokens) for tokens in spelled}:
        numbers = [number for number in range(101) if len(spelled[number]) == length]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([prompt + spelled[number] for number in numbers])).logits
        p = logits[:, -length - 1 :].double().softmax(-1).numpy()
        for row, number in enumerate(numbers):
            found[number] = 1 - p[row, -1, digits].sum()
            for place, token in enumerate(spelled[number]):
                found[number] *= p[row, place, token]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("longest", [1, 2, 3])
@pytest.mark.parametrize("budget", [200, 4096])
def test_it_is_that_of_a_full_pass_a_number(
    kind: str, longest: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(number_scorer._BATCH_TOKENS, "cpu", budget)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(number_scorer, "_HEAD_ROWS", 37)
    loaded = toy(longest, kind)
    found = list(NumberScorer(loaded).probabilities(CHATS))
    assert len(found) == len(CHATS)
    for chat, p_101 in zip(CHATS, found, strict=True):
        assert p_101 is not None
        expected = naive(loaded, chat)
        np.testing.assert_allclose(p_101, expected, atol=1e-6, rtol=1e-4)
        assert 0 < p_101.sum() <= 1


@pytest.mark.parametrize(("longest", "nodes"), [(1, 101), (2, 101), (3, 101)])
def test_the_tree_holds_each_beginning_once(longest: int, nodes: int) -> None:
    tree = number_tree(tokenizer(longest))
    assert len(tree.edges) == nodes
    assert len(set(tree.ends)) == 101
    assert all(parent < node for node, (parent, _) in enumerate(tree.edges, start=1))
    assert max(tree.depths) == {1: 2, 2: 1, 3: 0}[longest]
    assert tree.ancestors.sum(1).tolist() == [depth + 1 for depth in tree.depths]


def test_a_prompt_that_is_too_long_is_left_out_and_the_others_stay() -> None:
    loaded = toy(1)
    long = (Message(role="user", content="x" * 600),)
    found = list(NumberScorer(loaded).probabilities([CHATS[0], long, CHATS[1]]))
    assert found[1] is None
    for chat, p_101 in ((CHATS[0], found[0]), (CHATS[1], found[2])):
        np.testing.assert_allclose(p_101, naive(loaded, chat), atol=1e-6, rtol=1e-4)  # type: ignore[arg-type]
    assert list(NumberScorer(loaded).probabilities([])) == []
    assert list(NumberScorer(loaded).probabilities([long])) == [None]


@pytest.mark.slow
def test_the_embedded_model_to_the_stated_precision() -> None:
    from spillover.config.study import ModelConfig
    from spillover.models.hf.model import load_model

    loaded = load_model(ModelConfig(name="smollm2-135m", dtype="float32", device="cpu"))
    asked = "How kind is this, from 0 to 100? Reply with a whole number and nothing else.\n\n"
    chats = [(Message(role="user", content=asked + text),) for text in ("Go away.", "You did well, my dear friend.")]
    p_101 = next(iter(NumberScorer(loaded).probabilities(chats)))  # the shorter one, padded beside the other
    assert p_101 is not None
    expected = naive(loaded, chats[0])
    np.testing.assert_allclose(p_101, expected, atol=1e-4)
    np.testing.assert_allclose(p_101.sum(), expected.sum(), atol=1e-4)
    score, wanted = (float(np.arange(101) @ p / p.sum()) for p in (p_101, expected))
    assert score == pytest.approx(wanted, abs=1e-2)
