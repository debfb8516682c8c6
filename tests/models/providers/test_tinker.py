"""What the Tinker backend asks of the service: masks, order, rates and samples are those of the study."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker_stand_in as stand_in
from tiny_models import tokenizer

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.errors import MissingExtra, SpilloverError, UserError
from spillover.models.batching import batches, learning_rate
from spillover.models.protocols import Prompt
from spillover.models.providers.tinker import MODEL_FILE, TinkerBackend, open_backend
from spillover.models.tokens import chat_ids, end_of_turn
from spillover.records.base import Message

CHATS = [((Message(role="user", content=f"what is {n}?"),), "the answer is " + "it " * n) for n in range(7)]
CONFIG = TrainConfig(epochs=3, batch_size=3, targets=("q_proj", "v_proj"), max_grad_norm=0.5, warmup_steps=2)


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> stand_in.Books:
    made = stand_in.Books(tokenizer())
    monkeypatch.setitem(sys.modules, "tinker", stand_in.module(made))
    return made


def backend() -> TinkerBackend:
    return open_backend(ModelConfig(name="m", path="org/base", backend="tinker"))


def train(out: Path) -> Any:
    return backend().trainer().train(CHATS, CONFIG, 5, out, lambda tokens: None)


def test_loss_is_on_the_answer_and_its_end_of_turn_alone(books: stand_in.Books, tmp_path: Path) -> None:
    train(tmp_path / "cell")
    steps = list(batches(len(CHATS), CONFIG, 5))
    assert len(books.batches) == len(steps) == 9
    for batch, indices in zip(books.batches, steps, strict=True):
        total = 0.0
        for datum, number in zip(batch, indices, strict=True):
            ids, start, end = chat_ids(books.tokenizer, *CHATS[number])
            weights_T = datum.loss_fn_inputs["weights"]
            assert datum.model_input.tokens == ids[:-1]
            assert datum.loss_fn_inputs["target_tokens"].tolist() == ids[1:]
            assert np.flatnonzero(weights_T).tolist() == list(range(start - 1, end - 1))
            assert datum.loss_fn_inputs["target_tokens"][-1] == end_of_turn(books.tokenizer)
            total += float(weights_T.sum())
        assert total == pytest.approx(1.0, abs=1e-6), "the summed loss is the mean over the batch's loss tokens"


def test_rates_shape_and_curve_are_the_studys(books: stand_in.Books, tmp_path: Path) -> None:
    result = train(tmp_path / "cell")
    assert [adam.learning_rate for adam in books.adams] == [learning_rate(step, 9, CONFIG) for step in range(9)]
    assert {(adam.grad_clip_norm, adam.weight_decay, adam.beta2) for adam in books.adams} == {(0.5, 0.0, 0.999)}
    (made,) = books.created
    assert (made["rank"], made["train_attn"], made["train_mlp"], made["train_unembed"]) == (8, True, False, False)
    assert result.loss_curve == pytest.approx([3.0 / (step + 1) for step in range(9)])
    assert result.loss_tokens == 3 * sum(
        end - start for _, start, end in (chat_ids(books.tokenizer, *c) for c in CHATS)
    )
    assert [path.name for path in (tmp_path / "cell").iterdir()] == [MODEL_FILE]


def test_a_broken_training_goes_on_from_the_last_epoch(books: stand_in.Books, tmp_path: Path) -> None:
    books.fail_at = 7
    with pytest.raises(SpilloverError, match="no machine was free"):
        train(tmp_path / "cell")
    result = train(tmp_path / "cell")
    assert len(books.created) == 1, "the second try takes up the saved state"
    assert len(books.batches) == 7 + 3
    assert result.loss_curve == pytest.approx([3.0 / (step + 1) for step in range(9)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cell.job.json", "cell"], (
        "the state stays until the shard is complete"
    )


def test_samples_are_asked_for_as_the_study_says(books: stand_in.Books, tmp_path: Path) -> None:
    train(tmp_path / "cell")
    books.fail_samples = {12}
    prompts = [Prompt(CHATS[0][0], (10, 11)), Prompt(CHATS[1][0], (12, 13))]
    config = SampleConfig(max_tokens=40, temperature=0.7, top_p=0.9)
    found = list(backend().generator().generate(prompts, config, tmp_path / "cell", lambda tokens: None))
    assert any(str(sampler["model_path"]).startswith("tinker://sampler/") for sampler in books.samplers)
    assert [(answer.prompt, answer.index) for answer in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [(answer.text, answer.stop_reason) for answer in found if not answer.error] == [("the answer", "stop")] * 3
    assert (found[2].stop_reason, found[2].error, found[2].text) == ("error", "the sampler was restarted", "")
    assert {(p.temperature, p.top_p, p.top_k) for _, p in books.sampled} == {(0.7, 0.9, -1)}
    assert [p.seed for _, p in books.sampled] == [10, 11, 12, 13]
    short = list(backend().generate(prompts[:1], SampleConfig(max_tokens=2), None, lambda tokens: None))
    assert {answer.stop_reason for answer in short} == {"length"}


def test_without_the_sdk_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinker", None)
    with pytest.raises(MissingExtra, match=r"spillover\[tinker\]"):
        backend().count_tokens(["a"])
    with pytest.raises(UserError, match="returns text only"):
        backend().reader()


def test_the_stand_in_has_the_signatures_of_the_sdk() -> None:
    """Where the SDK is installed, everything that the backend passes must have its place there."""
    tinker = pytest.importorskip("tinker", reason="the Tinker SDK is not installed")
    for name in ("ServiceClient", "TrainingClient", "SamplingClient"):
        for method, ours in inspect.getmembers(getattr(stand_in, name), inspect.isfunction):
            if not method.startswith("_"):
                theirs = inspect.signature(getattr(getattr(tinker, name), method)).parameters
                assert set(inspect.signature(ours).parameters) <= set(theirs), f"{name}.{method}"
    for name in ("AdamParams", "SamplingParams"):
        theirs = getattr(tinker.types, name).model_fields
        assert set(inspect.signature(getattr(stand_in, name)).parameters) <= set(theirs), name
