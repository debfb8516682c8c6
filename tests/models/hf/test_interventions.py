"""Interventions while decoding, against uncached passes that nnsight changes, and against their own algebra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from tiny_models import KINDS, tiny
from torch import Tensor, nn

from spillover.config.study import SampleConfig
from spillover.errors import UserError
from spillover.models.hf.adapters import merged_weights
from spillover.models.hf.decode import Decoder, PartialCompletion, uniforms
from spillover.models.hf.generate import HFGenerator
from spillover.models.hf.hooks import Interventions
from spillover.models.hf.model import LoadedModel
from spillover.models.protocols import Generation, Intervention, Prompt
from spillover.models.tokens import prompt_ids
from spillover.records.base import Message

QUESTIONS = ["Hi", "What is that thing over there?", "Hi", "Who are you?", "Hi", "Hi", "The answer?"]


def direction(seed: int = 0, size: int = 48) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def mixed(depth: int) -> list[Intervention | None]:
    everywhere = tuple(range(depth + 1))
    return [
        Intervention(direction(0), (1,), "add", 6.0),
        None,
        Intervention(direction(0), everywhere, "ablate", 1.0),
        Intervention(direction(1), (1,), "clamp", -5.0, "answer"),
        Intervention(direction(2), (0, depth), "add", -4.0, "prompt"),
        Intervention(direction(1), (depth,), "add", 9.0),
        Intervention(direction(3), (1, depth), "ablate", 0.5, "answer"),
    ]


def ask(wanted: Sequence[Intervention | None], n: int = 1, questions: Sequence[str] = QUESTIONS) -> list[Prompt]:
    return [
        Prompt((Message(role="user", content=text),), tuple(100 * number + i for i in range(n)), one)
        for number, (text, one) in enumerate(zip(questions, wanted, strict=True))
    ]


def sample(loaded: LoadedModel, prompts: list[Prompt], **settings: float) -> list[Generation]:
    config = SampleConfig.model_validate({"max_tokens": 10, "batch": 4, **settings})
    return list(HFGenerator(loaded).generate(prompts, config, None, lambda tokens: None))


def texts(loaded: LoadedModel, prompts: list[Prompt], **settings: float) -> list[str]:
    return [answer.text for answer in sample(loaded, prompts, **settings)]


def decoded(
    loaded: LoadedModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch, adapter: Path | None = None
) -> list[tuple[Prompt, PartialCompletion, list[Tensor]]]:
    """Greedy answers of six tokens, all in one batch, with the logits of every step."""
    seen: list[Tensor] = []

    def spy(logits_BV: Tensor, *rest: object) -> Tensor:
        seen.append(logits_BV.clone())
        return logits_BV.argmax(-1)

    monkeypatch.setattr("spillover.models.hf.decode.sample_tokens", spy)
    ids = [prompt_ids(loaded.tokenizer, prompt.messages) for prompt in prompts]
    answers = [
        PartialCompletion(i, 0, row, uniforms(i, 6), intervention=prompt.intervention)
        for i, (row, prompt) in enumerate(zip(ids, prompts, strict=True))
    ]
    changes = Interventions(loaded.blocks, [prompt.intervention for prompt in prompts], loaded.name, loaded.device)
    weights = merged_weights(loaded, adapter)
    decoder = Decoder(loaded.model, weights, answers, SampleConfig(max_tokens=6), frozenset(), changes)
    while decoder.queue or decoder.live:
        decoder.step()
    return [(prompt, answers[i], [step[i] for step in seen]) for i, prompt in enumerate(prompts)]


def peer(model: nn.Module, name: str, tokens: list[int], prompt: int, one: Intervention | None) -> Tensor:
    """The last logits of one uncached pass whose stream nnsight changes."""
    traced: Any = nnsight.NNsight(model)
    path, where = name.split("."), torch.arange(len(tokens))
    with torch.no_grad(), traced.trace(torch.tensor([tokens])):
        if one is not None:
            u = torch.from_numpy(one.vector_D)
            inside = {"all": where >= 0, "prompt": where < prompt, "answer": where >= prompt}[one.at].float()[:, None]
            blocks = traced
            for part in path:
                blocks = getattr(blocks, part)
            for layer in sorted(one.layers):
                x = blocks[0].input if layer == 0 else blocks[layer - 1].output
                along = (x @ u)[..., None]
                step = {"add": one.amount + 0 * along, "ablate": -one.amount * along, "clamp": one.amount - along}
                changed = x + inside * step[one.operation] * u
                if layer == 0:
                    blocks[0].input = changed
                else:
                    blocks[layer - 1].output = changed
        logits = traced.output.logits.save()
    return logits[0, -1]


NAMES = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steered_logits_are_those_of_nnsight(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny(kind, layers=3)
    moved = 0
    for prompt, answer, logits in decoded(loaded, ask(mixed(3)), monkeypatch):
        for step in (0, 1, 5):
            tokens = answer.prompt_tokens + answer.tokens[:step]
            length, name = len(answer.prompt_tokens), NAMES.get(kind, "model.layers")
            expected = peer(loaded.model, name, tokens, length, prompt.intervention)
            torch.testing.assert_close(logits[step], expected, rtol=1e-4, atol=1e-4)
            moved += not torch.allclose(expected, peer(loaded.model, name, tokens, length, None), atol=1e-2)
    assert moved == 6 * 3 - 2, "all but those that leave the last prompt token alone are seen in the first logits"


@pytest.mark.slow
def test_an_adapter_is_steered_as_its_base_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = get_peft_model(tiny().model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in handle.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    handle.save_pretrained(tmp_path)
    merged = handle.merge_and_unload()
    for prompt, answer, logits in decoded(tiny(), ask(mixed(2)), monkeypatch, tmp_path):
        tokens, length = answer.prompt_tokens + answer.tokens[:5], len(answer.prompt_tokens)
        expected = peer(merged, "model.layers", tokens, length, prompt.intervention)
        torch.testing.assert_close(logits[5], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operation", ["add", "ablate"])
def test_an_amount_of_zero_is_the_untouched_model_token_for_token(dtype: torch.dtype, operation: Any) -> None:
    loaded = tiny("qwen2", dtype)
    nothing = Intervention(direction(), (0, 1, 2), operation, 0.0)
    plain = sample(loaded, ask([None] * 7), temperature=0, max_tokens=24)
    assert sample(loaded, ask([nothing] * 7), temperature=0, max_tokens=24) == plain


def test_an_untouched_row_stays_so_to_the_last_bit_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("qwen2", torch.bfloat16)
    alone = decoded(loaded, ask([None] * 7), monkeypatch)
    beside = decoded(loaded, ask([None, *mixed(2)[:1], *[None] * 5]), monkeypatch)
    for row in (0, 2, 6):
        assert all(torch.equal(a, b) for a, b in zip(alone[row][2], beside[row][2], strict=True))
    assert not torch.equal(alone[1][2][0], beside[1][2][0])


@pytest.mark.slow
def test_twice_the_vector_is_twice_the_amount() -> None:
    loaded = tiny(dtype=torch.float64)
    for at in ("prompt", "answer", "all"):
        once = Intervention(2 * direction(), (1,), "add", 3.0, at)
        twice = Intervention(direction(), (1,), "add", 6.0, at)
        answers = texts(loaded, ask([once] * 7, 2))
        assert answers == texts(loaded, ask([twice] * 7, 2))
        assert answers != texts(loaded, ask([None] * 7, 2))


def nested(loaded: LoadedModel, steps: Sequence[Intervention], seen: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
    """Logits under several interventions, one after the other, and the stream behind them."""
    ids, kept = torch.tensor([[1, 2, 3, 4]]), list[Tensor]()
    changes = Interventions(loaded.blocks, steps, "m", loaded.device)
    positions = torch.arange(4)[None]
    with torch.no_grad():
        if not steps:
            with loaded.blocks.visited(seen, lambda layer, x: kept.append(x)):
                return loaded.model(ids).logits, kept
        first, *rest = steps
        with changes.applied([(first, 2)], positions):
            return nested(loaded, rest, seen)


def test_adding_then_subtracting_is_the_identity() -> None:
    loaded = tiny(dtype=torch.float64)
    add = Intervention(direction(), (0, 1, 2), "add", 7.0)
    torch.testing.assert_close(nested(loaded, [add, replace(add, amount=-7.0)])[0], nested(loaded, [])[0])
    assert not torch.allclose(nested(loaded, [add])[0], nested(loaded, [])[0], atol=0.1)


def test_clamping_after_ablating_is_clamping_and_ablating_is_clamping_to_zero() -> None:
    loaded = tiny(dtype=torch.float64)
    ablate, clamp = (Intervention(direction(), (1, 2), name, 1.0) for name in ("ablate", "clamp"))
    torch.testing.assert_close(nested(loaded, [ablate, clamp])[0], nested(loaded, [clamp])[0], rtol=0, atol=1e-5)
    zero = replace(clamp, amount=0.0)
    torch.testing.assert_close(nested(loaded, [ablate])[0], nested(loaded, [zero])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_ablation_leaves_no_projection_at_any_layer_and_clamping_the_amount(kind: str) -> None:
    loaded, everywhere = tiny(kind), (0, 1, 2)
    along = torch.from_numpy(direction())
    for operation, amount, expected in (("ablate", 1.0, 0.0), ("clamp", 2.5, 2.5)):
        one = Intervention(direction(), everywhere, operation, amount)
        for state in nested(loaded, [one], everywhere)[1]:
            torch.testing.assert_close(state[0] @ along, torch.full((4,), expected), rtol=0, atol=2e-5)
    answer = Intervention(direction(), everywhere, "clamp", 2.5, "answer")  # the prompt has two tokens
    for changed, plain in zip(nested(loaded, [answer], everywhere)[1], nested(loaded, [], everywhere)[1], strict=True):
        torch.testing.assert_close(changed[0, :2], plain[0, :2])
        assert not torch.allclose(changed[0, 2:] @ along, plain[0, 2:] @ along, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_each_of_a_mixed_batch_is_as_it_is_alone(kind: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny(kind, torch.float64)
    prompts = ask(mixed(2), 3)
    alone = [text for prompt in prompts for text in texts(loaded, [prompt])]
    assert texts(loaded, prompts, batch=batch) == alone
    monkeypatch.setattr("spillover.models.hf.decode._PREFILL_TOKENS", 60)  # several groups of prompts
    assert texts(loaded, prompts, batch=batch) == alone
    assert len(set(alone)) > 15


def rows_read(loaded: LoadedModel, wanted: Sequence[Intervention | None], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each pass over prompts has, when all ask the same question."""
    sizes: list[int] = []
    plain = Decoder._forward  # pyright: ignore[reportPrivateUsage]

    def spy(self: Decoder, slots: Any, tokens_BQ: Tensor, *rest: Any) -> Tensor:
        if slots is not self.slots:
            sizes.append(len(tokens_BQ))
        return plain(self, slots, tokens_BQ, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "_forward", spy)
        sample(loaded, ask(wanted, 2, ["Hi"] * len(wanted)), max_tokens=2)
    return sizes


def test_keys_are_shared_where_no_intervention_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny()
    add = Intervention(direction(), (1,), "add", 3.0)
    answer_only = [replace(add, amount=amount, at="answer") for amount in (1.0, 2.0, 3.0)]
    last_block = replace(add, layers=(2,))  # nothing reads keys from behind it
    assert rows_read(loaded, [None, *answer_only, last_block], monkeypatch) == [1]
    changing = [add, replace(add, amount=4.0), replace(add), replace(add, at="prompt")]
    assert rows_read(loaded, [None, *answer_only, *changing], monkeypatch) == [3]


def test_without_interventions_there_is_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny()
    monkeypatch.setattr("spillover.models.hf.model.find_blocks", None)  # not even looked for
    assert len(sample(loaded, ask([None] * 7))) == 7


def test_hooks_are_gone_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny()
    before = sample(loaded, ask([None] * 7))
    with monkeypatch.context() as patch:
        patch.setattr(loaded.model.lm_head, "forward", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sample(loaded, ask(mixed(2)))
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in loaded.blocks.blocks)
    assert sample(loaded, ask([None] * 7)) == before


def test_what_does_not_fit_is_refused() -> None:
    loaded = tiny()
    for wrong, message in (
        (Intervention(direction(size=32), (1,), "add", 1.0), r"shape \(32,\) does not fit llama.*48 numbers"),
        (Intervention(direction(), (1, 3), "add", 1.0), r"llama has no layer 3\. Choose layers from 0 to 2"),
        (Intervention(direction(), (), "add", 1.0), "has no layers"),
    ):
        with pytest.raises(UserError, match=message):
            sample(loaded, ask([wrong, *[None] * 6]))
