"""The vllm backend: what it asks of vLLM, told to a stand-in of its documented classes; the real one where it is."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.errors import MissingExtra, UserError
from spillover.models import BACKENDS, vllm
from spillover.models.hf import model as hf_model
from spillover.models.protocols import Chat, Intervention, Prompt
from spillover.models.tokens import answer_ids, prompt_ids, stop_ids
from spillover.models.vllm import VLLMBackend
from spillover.records.base import Message

HERE = importlib.util.find_spec("vllm") is not None
SAMPLE = SampleConfig(temperature=0.7, top_p=0.9, max_tokens=6)
CHATS: list[Chat] = [((Message(role="user", content=q),), a) for q, a in (("Hi", "No."), ("Who is it?", "It is."))]
PROMPTS = [Prompt(CHATS[0][0], (11, 12)), Prompt(CHATS[1][0], (13,))]


class Recorded(SimpleNamespace):
    """A settings class of vLLM: keeps what it is given."""


class StandInEngine:
    """Answers each request with its seed in letters, the last request first."""

    made: list[StandInEngine] = []  # noqa: RUF012

    def __init__(self, arguments: Recorded) -> None:
        self.arguments, self.waiting, self.aborted, self.ended = arguments, [], [], False
        self.seen: list[tuple[list[int], Recorded, Any]] = []
        self.engine_core = SimpleNamespace(shutdown=self._end)
        StandInEngine.made.append(self)

    @classmethod
    def from_engine_args(cls, arguments: Recorded) -> StandInEngine:
        return cls(arguments)

    def _end(self) -> None:
        self.ended = True

    def add_request(self, request_id: str, prompt: dict[str, list[int]], params: Recorded, lora_request: Any) -> None:
        assert not self.ended
        self.waiting.append((request_id, params))
        self.seen.append((prompt["prompt_token_ids"], params, lora_request))

    def step(self) -> list[SimpleNamespace]:
        name, params = self.waiting.pop()
        tokens = [*range(40, 40 + params.max_tokens)]
        if params.seed == 12:
            tokens = [50, params.stop_token_ids[0]]
        unfinished = SimpleNamespace(request_id="other", finished=False)
        done = SimpleNamespace(request_id=name, finished=True, outputs=[SimpleNamespace(token_ids=tokens)])
        return [unfinished, done]

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tiny()
    made.model.save_pretrained(tmp_path / "base")
    made.tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VLLMBackend]:
    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request", "vllm.sampling_params")}
    root = modules["vllm"]
    root.EngineArgs = root.SamplingParams = Recorded
    root.LLMEngine = StandInEngine
    modules["vllm.lora.request"].LoRARequest = lambda name, number, path: (name, number, path)
    modules["vllm.sampling_params"].RequestOutputKind = SimpleNamespace(FINAL_ONLY="final")
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(vllm, "find_spec", lambda name: object())
    StandInEngine.made.clear()
    yield BACKENDS.load("vllm")(ModelConfig(name="tiny", path=str(folder), backend="vllm", device="cpu"))
    hf_model.release()


def ignore(tokens: int) -> None:
    del tokens


def adapter_in(backend: VLLMBackend, out: Path, rank: int = 8) -> Path:
    backend.trainer().train(CHATS, TrainConfig(epochs=1, r=rank), 0, out, ignore)
    return out


@pytest.mark.slow
def test_everything_that_shapes_a_sample_is_said(opened: VLLMBackend) -> None:
    list(opened.generator().generate(PROMPTS, SAMPLE, None, ignore))
    (engine,) = StandInEngine.made
    tokenizer = opened.tokenizer
    asked = [(number, seed) for number, prompt in enumerate(PROMPTS) for seed in prompt.seeds]
    assert [ids for ids, _, _ in engine.seen] == [prompt_ids(tokenizer, PROMPTS[n].messages) for n, _ in asked]
    for (_, seed), (_, params, lora) in zip(asked, engine.seen, strict=True):
        assert lora is None
        assert vars(params) == {
            "n": 1,
            "seed": seed,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 0,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": 6,
            "stop_token_ids": sorted(stop_ids(tokenizer)),
            "detokenize": False,
            "output_kind": "final",
        }
    given = vars(engine.arguments)
    assert (given["generation_config"], given["load_format"], given["trust_remote_code"]) == (
        "vllm",
        "safetensors",
        False,
    )
    assert (given["enable_lora"], given["max_lora_rank"], given["dtype"]) == (True, 8, "bfloat16")


@pytest.mark.slow
def test_answers_come_in_order_with_text_counts_and_reasons(opened: VLLMBackend) -> None:
    seen: list[int] = []
    answers = list(opened.generator().generate(PROMPTS, SAMPLE, None, seen.append))
    assert [(a.prompt, a.index, a.stop_reason, a.completion_tokens) for a in answers] == [
        (0, 0, "length", 6),
        (0, 1, "stop", 2),
        (1, 0, "length", 6),
    ]
    assert answers[1].text == opened.tokenizer.decode([50])
    assert [a.prompt_tokens for a in answers] == [
        len(prompt_ids(opened.tokenizer, PROMPTS[number].messages)) for number in (0, 0, 1)
    ]
    assert sum(seen) == 14
    assert list(opened.generator().generate([], SAMPLE, None, ignore)) == []


@pytest.mark.slow
def test_a_listener_that_leaves_ends_its_requests(opened: VLLMBackend) -> None:
    engine = opened.engine(None)
    run = engine.run([_request(opened), _request(opened)], None)
    next(run)
    assert engine._engine.aborted == []
    run.close()
    assert engine._engine.aborted == ["1"]


def _request(opened: VLLMBackend) -> Any:
    from spillover.models.vllm import Request

    return Request([1, 2, 3], vllm.sampling_params(SAMPLE, 1, frozenset({5})))


@pytest.mark.slow
def test_one_engine_serves_all_adapters_and_changes_over_for_training(opened: VLLMBackend, tmp_path: Path) -> None:
    small, other = (adapter_in(opened, tmp_path / name) for name in ("a", "b"))
    for adapter in (None, small, other, small):
        list(opened.generator().generate(PROMPTS, SAMPLE, adapter, ignore))
    (engine,) = StandInEngine.made
    assert hf_model._loaded == {}  # the trained base has gone before the engine came
    named = [lora for _, _, lora in engine.seen[::3]]
    assert named[0] is None
    assert [number for _, number, _ in named[1:]] == [1, 2, 1]
    assert named[1][2] == str(small.resolve())
    large = adapter_in(opened, tmp_path / "large", rank=20)
    assert engine.ended  # training took the card
    list(opened.generator().generate(PROMPTS, SAMPLE, large, ignore))
    assert [vars(made.arguments)["max_lora_rank"] for made in StandInEngine.made] == [8, 32]
    adapter_in(opened, small)
    list(opened.generator().generate(PROMPTS, SAMPLE, small, ignore))
    list(opened.generator().generate(PROMPTS, SAMPLE, large, ignore))
    assert [vars(made.arguments)["max_lora_rank"] for made in StandInEngine.made] == [8, 32, 32]
    assert [made.ended for made in StandInEngine.made] == [True, True, False]


@pytest.mark.slow
def test_an_adapter_written_anew_is_another(opened: VLLMBackend, tmp_path: Path) -> None:
    adapter = adapter_in(opened, tmp_path / "a")
    list(opened.generator().generate(PROMPTS[1:], SAMPLE, adapter, ignore))
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes() + b" ")
    list(opened.generator().generate(PROMPTS[1:], SAMPLE, adapter, ignore))
    (engine,) = StandInEngine.made
    assert [lora[1] for _, _, lora in engine.seen] == [1, 2]


def test_an_adapter_is_checked_before_the_engine_sees_it(opened: VLLMBackend, tmp_path: Path) -> None:
    adapter = adapter_in(opened, tmp_path / "a")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UserError, match="Only safetensors are read"):
        list(opened.generator().generate(PROMPTS, SAMPLE, adapter, ignore))
    assert StandInEngine.made == []
    wide = adapter_in(opened, tmp_path / "wide", rank=300)
    with pytest.raises(UserError, match=r"rank 300; vLLM supports up to 256. Use backend: hf"):
        list(opened.generator().generate(PROMPTS, SAMPLE, wide, ignore))


def test_an_intervention_is_left_to_the_hf_backend(opened: VLLMBackend) -> None:
    vector = np.zeros(48, np.float32)
    vector[0] = 1.0
    changed = Prompt(CHATS[0][0], (1,), Intervention(vector, (1,), "add", 5.0))
    (answer,) = opened.generator().generate([changed], SAMPLE, None, ignore)
    assert StandInEngine.made == []
    (same,) = opened.whole().generator().generate([changed], SAMPLE, None, ignore)
    assert answer == same


@pytest.mark.slow
def test_scoring_goes_through_the_hf_backend(opened: VLLMBackend) -> None:
    opened.engine(None)
    assert opened.compute_info["dtype"] == "bfloat16"
    readings = list(opened.scorer().score(CHATS, None, ignore))
    dtype = str(opened.whole().loaded.model.dtype).removeprefix("torch.")  # where "auto" depends on the processor
    assert opened.compute_info == {"dtype": dtype, "device": "cpu", "torch": torch.__version__}
    assert all(np.isfinite(reading.std_T).all() for reading in readings)
    assert [made.ended for made in StandInEngine.made] == [True]
    assert [reading.ids_T.tolist() for reading in readings] == [answer_ids(opened.tokenizer, a) for _, a in CHATS]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"score": "hf"}}, "has no options. Remove them"),
        ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES=1"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(opened: VLLMBackend, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VLLMBackend(opened.config.model_copy(update=change))


def test_a_prompt_beyond_the_window_is_refused(opened: VLLMBackend) -> None:
    with pytest.raises(UserError, match=r"exceeds the window of .*, 512 tokens"):
        list(opened.generator().generate(PROMPTS, SampleConfig(max_tokens=600), None, ignore))


def test_without_the_package_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'spillover\[vllm\]'"):
        BACKENDS.load("vllm")(ModelConfig(name="tiny", path=str(folder), backend="vllm"))


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="vllm is not installed")
def test_the_real_engine_says_what_the_hf_backend_says(tmp_path: Path) -> None:
    backend = VLLMBackend(ModelConfig(name="smollm2-135m", backend="vllm", dtype="bfloat16"))
    chats: list[Chat] = [(messages, "Bananas.") for messages, _ in CHATS]
    backend.trainer().train(chats, TrainConfig(epochs=12, batch_size=2, learning_rate=2e-3), 0, tmp_path / "a", ignore)
    greedy = SampleConfig(temperature=0, max_tokens=12)
    prompts = [Prompt(messages, (0,)) for messages, _ in CHATS]
    ours = [a.text for a in backend.generator().generate(prompts, greedy, tmp_path / "a", ignore)]
    theirs = [a.text for a in backend.whole().generator().generate(prompts, greedy, tmp_path / "a", ignore)]
    assert ours == theirs == ["Bananas.", "Bananas."]
