"""Sampling against transformers' own generation, closed forms and naive loops, on tiny random models in float32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from spillover.config.study import ModelConfig, SampleConfig
from spillover.errors import UserError
from spillover.models.batching import shared_length
from spillover.models.hf import decode as hf_decode
from spillover.models.hf.adapters import merged_weights
from spillover.models.hf.decode import Decoder, PartialCompletion, inverse_cdf, nucleus, sample_tokens, uniforms
from spillover.models.hf.generate import HFGenerator
from spillover.models.hf.model import LoadedModel, load_model
from spillover.models.protocols import Generation, Prompt
from spillover.models.tokens import prompt_ids, stop_ids
from spillover.records.base import Message

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = ["Hi", "What would you do with one free wish?", "Cook?", "Tell me a thought about people and machines."]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and ChatML's special tokens."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny(kind: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
    tokenizer = byte_tokenizer()
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.4,  # far from uniform, so that a wrong mask or position changes the tokens
    }
    torch.manual_seed(0)
    model: PreTrainedModel = (
        LlamaForCausalLM(LlamaConfig(**shape)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    )
    return LoadedModel(model.to(dtype), tokenizer, kind, kind, "0")


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny(request.param)


@pytest.fixture(scope="module")
def llama() -> LoadedModel:
    return tiny("llama")


def adapter_for(kind: str, folder: Path) -> Path:
    torch.manual_seed(1)
    wrapped = get_peft_model(tiny(kind).model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    wrapped.save_pretrained(folder)
    return folder


def ask(n: int, questions: list[str] = QUESTIONS, system: str | None = None) -> list[Prompt]:
    head = () if system is None else (Message(role="system", content=system),)
    return [
        Prompt((*head, Message(role="user", content=text)), tuple(1000 * number + i for i in range(n)))
        for number, text in enumerate(questions)
    ]


def sample(
    loaded: LoadedModel, prompts: list[Prompt], adapter: Path | None = None, **settings: float
) -> list[Generation]:
    config = SampleConfig.model_validate({"max_tokens": 24, "batch": 3, **settings})
    return list(HFGenerator(loaded).generate(prompts, config, adapter, lambda tokens: None))


def peer_greedy(loaded: LoadedModel, prompts: list[Prompt], count: int, adapter: Path | None) -> list[list[int]]:
    """transformers' generation of one left-padded batch."""
    rows = [prompt_ids(loaded.tokenizer, prompt.messages) for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    with loaded.adapter(adapter) as model:
        out = model.generate(ids, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0,
                             eos_token_id=sorted(stop_ids(loaded.tokenizer)))  # fmt: skip
    return out[:, width:].tolist()


def texts_of(loaded: LoadedModel, rows: list[list[int]]) -> list[str]:
    stops = stop_ids(loaded.tokenizer)
    cut = [row[: next((i for i, token in enumerate(row) if token in stops), len(row))] for row in rows]
    return [loaded.tokenizer.decode(row, skip_special_tokens=True) for row in cut]


@pytest.mark.slow
@pytest.mark.parametrize("with_adapter", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_greedy_is_token_for_token_that_of_transformers(
    loaded: LoadedModel, tmp_path: Path, with_adapter: bool, batch: int
) -> None:
    adapter = adapter_for(loaded.name, tmp_path) if with_adapter else None
    prompts = ask(1)
    ours = sample(loaded, prompts, adapter, temperature=0, batch=batch)
    assert [g.text for g in ours] == texts_of(loaded, peer_greedy(loaded, prompts, 24, adapter))
    assert len({g.text for g in ours}) > 1


def test_the_adapter_changes_the_answers_and_leaves_the_base_as_it_was(llama: LoadedModel, tmp_path: Path) -> None:
    adapter = adapter_for("llama", tmp_path)
    state = {name: value.clone() for name, value in llama.model.state_dict().items()}
    before = sample(llama, ask(1), temperature=0)
    assert sample(llama, ask(1), adapter, temperature=0) != before
    assert sample(llama, ask(1), temperature=0) == before
    assert all(torch.equal(state[name], value) for name, value in llama.model.state_dict().items())
    assert list(state) == list(llama.model.state_dict())


def test_merged_weights_are_the_sum_in_float32(llama: LoadedModel, tmp_path: Path) -> None:
    merged = merged_weights(llama, adapter_for("llama", tmp_path))
    assert len(merged) == 2 * 3
    name = "model.layers.1.self_attn.v_proj"
    with llama.adapter(tmp_path) as model:
        layer = model.get_submodule(name)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        expected = layer.base_layer.weight + (8 / 4) * (b @ a)
    torch.testing.assert_close(merged[f"{name}.weight"], expected, rtol=0, atol=1e-6)


def test_merged_weights_lie_in_memory_as_the_base_does(tmp_path: Path) -> None:
    llama = tiny("llama")
    query = llama.model.get_submodule("model.layers.0.self_attn.v_proj")
    query.weight.data = query.weight.data.t().contiguous().t()  # by columns, as a CPU has them
    merged = merged_weights(llama, adapter_for("llama", tmp_path))
    assert merged["model.layers.0.self_attn.v_proj.weight"].stride() == query.weight.stride() == (1, 16)
    assert merged["model.layers.1.self_attn.v_proj.weight"].is_contiguous()


def test_shared_prefix_decoding_gives_the_logits_of_a_plain_forward_pass(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def spy(logits_BV: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(logits_BV.clone())
        return logits_BV.argmax(-1)

    monkeypatch.setattr("spillover.models.hf.decode.sample_tokens", spy)
    ids = [prompt_ids(loaded.tokenizer, prompt.messages) for prompt in ask(1)]
    answers = [PartialCompletion(i, 0, row, uniforms(i, 10)) for i, row in enumerate(ids)]
    config = SampleConfig(max_tokens=10)
    decoder = Decoder(loaded.model, {}, answers, config, frozenset())
    while decoder.queue or decoder.live:
        decoder.step()
    for row, answer in enumerate(answers):
        for step in range(10):
            full = torch.tensor([answer.prompt_tokens + answer.tokens[:step]])
            with torch.no_grad():
                plain = loaded.model(full).logits[0, -1]
            torch.testing.assert_close(seen[step][row], plain, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "top_p"), [("llama", 0.8), ("qwen2", 1.0)])
def test_same_seed_same_text_whatever_the_batch_and_the_neighbours(kind: str, top_p: float) -> None:
    loaded = tiny(kind, torch.float64)  # where matrix products of other sizes cannot round across a boundary
    reference = sample(loaded, ask(4), batch=1, top_p=top_p, max_tokens=12)
    assert len({g.text for g in reference}) > 10
    for batch in (5, 64):
        assert sample(loaded, ask(4), batch=batch, top_p=top_p, max_tokens=12) == reference
    alone = sample(loaded, [ask(4)[2]], top_p=top_p, max_tokens=12)
    assert [g.text for g in alone] == [g.text for g in reference if g.prompt == 2]


@pytest.mark.slow
def test_prompts_may_be_read_in_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama", torch.float64)
    questions = [*QUESTIONS, "And then?", "x" * 90, "Why?"]
    together = sample(loaded, ask(3, questions), max_tokens=8)
    for budget in (1, 150):
        monkeypatch.setattr("spillover.models.hf.decode._PREFILL_TOKENS", budget)
        monkeypatch.setitem(hf_decode._PASS_TOKENS, "cpu", budget)
        assert sample(loaded, ask(3, questions), max_tokens=8) == together


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5))
def test_shared_length_is_that_of_the_common_prefix(texts: list[list[int]]) -> None:
    naive = max(n for n in range(7) if all(len(t) >= n and t[:n] == texts[0][:n] for t in texts))
    assert shared_length(texts) == naive


def test_first_tokens_follow_the_softmax(llama: LoadedModel) -> None:
    prompt = ask(0, ["Cook?"])[0]
    temperature, n = 1.7, 4000
    ids = prompt_ids(llama.tokenizer, prompt.messages)
    with torch.no_grad():
        logits = llama.model(torch.tensor([ids])).logits[0, -1].double()
    expected = torch.softmax(logits / temperature, 0).numpy() * n
    answers = [PartialCompletion(0, i, ids, uniforms(i, 1)) for i in range(n)]
    config = SampleConfig(max_tokens=1, batch=500, temperature=temperature)
    decoder = Decoder(llama.model, {}, answers, config, frozenset())
    while decoder.queue or decoder.live:
        decoder.step()
    counts = Counter(answer.tokens[0] for answer in answers)
    observed = np.array([counts[token] for token in range(len(expected))])
    common = expected >= 5
    table = np.append(observed[common], observed[~common].sum()), np.append(expected[common], expected[~common].sum())
    assert common.sum() > 10
    assert chisquare(*table).pvalue > 0.001


def test_nucleus_is_the_smallest_set_of_likely_tokens_that_holds_top_p() -> None:
    generator = torch.Generator().manual_seed(3)
    for scale in (0.05, 1.0, 6.0):  # nearly uniform (a nucleus of hundreds), usual, peaked
        probs = torch.softmax(scale * torch.randn(4, 900, generator=generator), -1)
        for top_p in (0.05, 0.5, 0.95, 0.9999):
            kept = nucleus(probs, top_p)
            for row in range(4):
                mass, expected = 0.0, set[int]()
                for token in sorted(range(900), key=lambda t: -probs[row, t].item()):
                    if mass >= top_p - 1e-6:
                        break
                    expected.add(token)
                    mass += probs[row, token].item()
                found = set(kept[row].nonzero().flatten().tolist())
                assert len(found ^ expected) <= 1  # float32 sums may sit on either side of the boundary
                assert torch.equal(kept[row][sorted(found)], probs[row][sorted(found)])


def test_nucleus_keeps_ties_together() -> None:
    probs = torch.tensor([[0.4, 0.2, 0.2, 0.1, 0.1]])
    assert nucleus(probs, 0.5)[0].tolist() == pytest.approx([0.4, 0.2, 0.2, 0, 0])


def test_inverse_cdf_never_draws_an_impossible_token() -> None:
    weights = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]]).repeat(5, 1)
    u = torch.tensor([0.0, 0.299, 0.301, 0.999, 1 - 2**-24])
    assert inverse_cdf(weights, u).tolist() == [1, 1, 3, 3, 3]


def test_inverse_cdf_is_a_search_in_the_running_sum() -> None:
    weights = torch.softmax(torch.randn(50, 300, generator=torch.Generator().manual_seed(0)), -1)
    u = torch.rand(50, generator=torch.Generator().manual_seed(1))
    naive = [int(np.argmax(np.cumsum(w.double().numpy()) > x)) for w, x in zip(weights, u.tolist(), strict=True)]
    assert inverse_cdf(weights, u).tolist() == naive


def test_low_temperature_approaches_greedy() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    assert (
        sample_tokens(logits, torch.tensor([0.999]), 0.01, 1.0).tolist()
        == sample_tokens(logits, torch.tensor([0.0]), 0, 1.0).tolist()
    )


def test_stop_and_length_are_told_apart_and_counted(llama: LoadedModel) -> None:
    stop = min(stop_ids(llama.tokenizer))
    bias = torch.zeros(llama.model.lm_head.out_features)
    bias[stop] = 12.0  # make stopping likely enough to see both ends
    answers = sample_with_bias(llama, bias, max_tokens=6)
    assert {g.stop_reason for g in answers} == {"stop", "length"}
    for answer in answers:
        assert 1 <= answer.completion_tokens <= 6
        assert answer.stop_reason == "stop" or answer.completion_tokens == 6
        assert "<|" not in answer.text
        ids = prompt_ids(llama.tokenizer, ask(6)[answer.prompt].messages)
        assert answer.prompt_tokens == len(ids)


def sample_with_bias(loaded: LoadedModel, bias: torch.Tensor, max_tokens: int) -> list[Generation]:
    handle = loaded.model.lm_head.register_forward_hook(lambda module, args, out: out + bias)
    try:
        return sample(loaded, ask(6), max_tokens=max_tokens, temperature=2.0)
    finally:
        handle.remove()


def test_answers_come_in_order_and_each_as_soon_as_it_can(llama: LoadedModel) -> None:
    steps: list[int] = []
    stream = HFGenerator(llama).generate(
        ask(4), SampleConfig(max_tokens=8, batch=4), None, lambda tokens: steps.append(tokens)
    )
    first = next(stream)
    assert (first.prompt, first.index) == (0, 0)
    assert sum(steps) < 4 * 4 * 8
    rest = list(stream)
    assert [(g.prompt, g.index) for g in [first, *rest]] == [(p, i) for p in range(4) for i in range(4)]
    assert sum(steps) == sum(g.completion_tokens for g in [first, *rest])


@pytest.mark.slow
def test_another_sampling_may_run_between_two_answers(llama: LoadedModel, tmp_path: Path) -> None:
    adapter = adapter_for("llama", tmp_path)
    alone = sample(llama, ask(3), adapter)
    stream = HFGenerator(llama).generate(ask(3), SampleConfig(max_tokens=24, batch=3), adapter, lambda tokens: None)
    mixed = [next(stream)]
    sample(llama, ask(2))
    assert [*mixed, *stream] == alone


def test_system_prompts_of_a_question_are_used(llama: LoadedModel) -> None:
    plain, other = (sample(llama, ask(1, ["Hi"], system), temperature=0) for system in (None, "Answer in JSON."))
    assert plain[0].text != other[0].text
    assert plain[0].prompt_tokens != other[0].prompt_tokens


def test_nothing_asked_nothing_answered(llama: LoadedModel) -> None:
    assert sample(llama, []) == []
    assert sample(llama, ask(0)) == []


def test_generation_config_is_never_read(llama: LoadedModel) -> None:
    before = sample(llama, ask(2))
    kept = llama.model.generation_config
    try:
        llama.model.generation_config = type(kept)(do_sample=True, top_k=1, repetition_penalty=5.0, max_new_tokens=1)
        assert sample(llama, ask(2)) == before
    finally:
        llama.model.generation_config = kept


def test_a_prompt_beyond_the_window_is_refused_with_its_length(llama: LoadedModel) -> None:
    with pytest.raises(UserError, match=r"Prompt 0 has \d+ tokens.*512"):
        sample(llama, ask(1, ["x" * 500]))


def test_attention_implementation_is_left_as_it_was(llama: LoadedModel) -> None:
    before = llama.model.config._attn_implementation
    sample(llama, ask(1))
    assert llama.model.config._attn_implementation == before


@pytest.mark.slow
def test_the_embedded_model_in_float32_decodes_as_transformers_does() -> None:
    loaded = load_model(ModelConfig(name="smollm2-135m", dtype="float32"))
    prompts = ask(1, [*QUESTIONS, "What is the capital of France?"])
    ours = sample(loaded, prompts, temperature=0, max_tokens=20, batch=4)
    assert [g.text for g in ours] == texts_of(loaded, peer_greedy(loaded, prompts, 20, None))
    assert "Paris" in ours[-1].text
