"""Loading a base once, and adapters in and out of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import tiny

from spillover.config.study import ModelConfig
from spillover.errors import MachineError, UserError
from spillover.models.embedded import weights
from spillover.models.hf import model as hf_model
from spillover.models.hf.model import LoadedModel, load_model, open_backend
from spillover.planning.cpu_speed import CpuSpeed

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


def adapter(at: Path, seed: int = 0, hidden: int = 48, **settings: object) -> Path:
    """A PEFT folder of random weights, written by PEFT alone."""
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings})
    handle = get_peft_model(tiny(hidden=hidden).model, config)
    torch.manual_seed(seed)
    for name, parameter in handle.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    handle.save_pretrained(at)
    return at


@pytest.fixture
def loaded() -> LoadedModel:
    return tiny()


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, {"target_modules": ["up_proj", "k_proj"], "r": 2}, {"rank_pattern": {"q_proj": 7}}],
)
def test_an_adapter_computes_what_peft_computes(
    tmp_path: Path, loaded: LoadedModel, settings: dict[str, object]
) -> None:
    path = adapter(tmp_path / "a", **settings)
    expected = logits(PeftModel.from_pretrained(tiny().model, path).eval())
    with loaded.adapter(path) as model:
        assert torch.allclose(logits(model), expected, atol=1e-5)
        assert not any(p.requires_grad for p in model.parameters())


def test_the_base_is_bare_outside_and_adapters_do_not_mix(tmp_path: Path, loaded: LoadedModel) -> None:
    a, b = adapter(tmp_path / "a", 1), adapter(tmp_path / "b", 2)
    modules, base = dict(loaded.model.named_modules()), logits(loaded.model)
    seen: dict[str, list[torch.Tensor]] = {}
    for path in (a, b, None, a, b, a):
        with loaded.adapter(path) as model:
            seen.setdefault(str(path), []).append(logits(model))
        assert dict(loaded.model.named_modules()) == modules
        assert torch.equal(logits(loaded.model), base)
    assert all(torch.equal(group[0], other) for group in seen.values() for other in group)
    assert torch.equal(seen["None"][0], base)
    assert not torch.allclose(seen[str(a)][0], seen[str(b)][0], atol=1e-2)


def test_a_broken_block_leaves_the_base_bare(tmp_path: Path, loaded: LoadedModel) -> None:
    modules = dict(loaded.model.named_modules())
    with pytest.raises(KeyError), loaded.adapter(adapter(tmp_path / "a")):
        raise KeyError
    assert dict(loaded.model.named_modules()) == modules
    with loaded.adapter(None), pytest.raises(RuntimeError, match="is in use"), loaded.adapter(tmp_path / "a"):
        pass


def test_few_adapters_stay_resident(tmp_path: Path, loaded: LoadedModel) -> None:
    for index in range(6):
        with loaded.adapter(adapter(tmp_path / str(index), index)):
            pass
    assert len(loaded._residents) == hf_model._RESIDENT_ADAPTERS


def test_a_retrained_adapter_is_read_again(tmp_path: Path, loaded: LoadedModel) -> None:
    path = adapter(tmp_path / "a", 1)
    with loaded.adapter(path) as model:
        before = logits(model)
    shutil.rmtree(path)
    adapter(path, 2)
    with loaded.adapter(path) as model:
        assert not torch.equal(logits(model), before)


def test_folders_that_are_no_adapter(tmp_path: Path, loaded: LoadedModel) -> None:
    def refused(words: str, path: Path = tmp_path / "a") -> None:
        with pytest.raises(UserError, match=words), loaded.adapter(path):
            pass
        assert "lora" not in repr(loaded.model)
        assert not hasattr(loaded.model, "peft_config")

    def settings(**changes: object) -> None:
        path = adapter(tmp_path / "a") / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    refused("adapter_config.json is missing", tmp_path / "nowhere")
    settings(peft_type="IA3")
    refused("peft_type must be LORA")
    settings(init_lora_weights="pissa")
    refused("init_lora_weights must be true")
    settings(modules_to_save=["lm_head"])
    refused("modules_to_save and bias are not supported")
    settings(target_modules=["nonesuch"])
    refused("LoRA cannot be applied")
    settings(target_modules=["q_proj"])
    refused("does not fit this base: 4 tensors")
    settings(target_modules=["q_proj", "v_proj", "o_proj"])
    refused("does not fit this base: 4 tensors")
    settings(r=5)
    refused("does not fit this base: size mismatch")
    adapter(tmp_path / "wide", hidden=96)
    refused("does not fit this base: size mismatch", tmp_path / "wide")
    adapter(tmp_path / "a").joinpath("adapter_config.json").write_text("{")
    refused("cannot be read")
    file = adapter(tmp_path / "a") / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    refused("is corrupted")
    file.rename(file.with_name("adapter_model.bin"))
    refused("Only safetensors are read")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made = tiny()
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_loading_a_folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_model, "_loaded", type(hf_model._loaded)())
    config = ModelConfig(name="tiny", path=str(saved), dtype="float32", device="cpu")
    loaded = load_model(config)
    assert load_model(config) is loaded
    assert (loaded.dtype, loaded.device.type, loaded.model.training) == (torch.float32, "cpu", False)
    assert torch.allclose(logits(loaded.model), logits(tiny().model), atol=1e-6)
    assert load_model(config.model_copy(update={"dtype": "bfloat16"})).dtype == torch.bfloat16
    load_model(config.model_copy(update={"dtype": "float16"}))
    assert len(hf_model._loaded) == hf_model._RESIDENT_MODELS

    backend = open_backend(config)
    assert (backend.name, backend.revision) == (str(saved), loaded.revision)
    assert backend.count_tokens(["", "a", "<eos>"]) == [0, 1, 5]
    assert backend.count_tokens([]) == []


def test_the_revision_of_a_folder_follows_its_weights(saved: Path) -> None:
    first = hf_model._fingerprint(saved)
    assert hf_model._fingerprint(saved) == first
    tensors = load_file(saved / "model.safetensors")
    tensors["model.norm.weight"][0] += 1e-3
    save_file(tensors, saved / "model.safetensors", {"format": "pt"})
    assert hf_model._fingerprint(saved) != first


def test_dtype_follows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny().model.config
    for half, dtype in ((400.0, torch.bfloat16), (80.0, torch.float32), (0.0, torch.float32)):
        speed = CpuSpeed("cpu", "2", 1, 64, 128, 100.0, 160.0, half, half)
        monkeypatch.setattr(hf_model, "measured", lambda hidden, inner, speed=speed: speed)
        assert hf_model._dtype("auto", torch.device("cpu"), settings) == dtype
    assert hf_model._dtype("float16", torch.device("cpu"), settings) == torch.float16


def test_storing_by_columns_moves_no_number(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_model, "_loaded", type(hf_model._loaded)())
    model = load_model(ModelConfig(name="tiny", path=str(saved), dtype="float32", device="cpu")).model
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in tiny().model.state_dict().items())
    assert model.get_submodule("model.layers.0.mlp.up_proj").weight.stride() == (1, 64)
    assert model.lm_head.weight.is_contiguous()
    assert model.model.embed_tokens.weight.is_contiguous()
    half = load_model(ModelConfig(name="tiny", path=str(saved), dtype="bfloat16", device="cpu")).model
    assert all(weight.is_contiguous() for weight in half.parameters())


def test_models_that_cannot_be_loaded(saved: Path, tmp_path: Path) -> None:
    def load(**settings: str) -> None:
        load_model(ModelConfig(**{"name": "tiny", "path": str(saved), **settings}))

    with pytest.raises(UserError, match=r"No model in .*nowhere: the folder does not exist. Give a folder"):
        load(path=str(tmp_path / "nowhere"))
    with pytest.raises(MachineError, match=r"Device 'cuda:9' cannot be used .*device: auto or cpu"):
        load(device="cuda:9")
    with pytest.raises(MachineError, match="Device 'toaster' cannot be used"):
        load(device="toaster")
    with pytest.raises(UserError, match="Unknown embedded model 'tiny'"):
        load_model(ModelConfig(name="tiny"))
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(MachineError, match="are corrupted"):
        load()
    file.unlink()
    torch.save({}, saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no \*\.safetensors \(pytorch_model\.bin is a pickle file"):
        load()
    file.write_bytes(content)
    (saved / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(UserError, match=r"'tiny' .* cannot be loaded"):
        load()


@pytest.mark.slow
def test_the_embedded_model() -> None:
    loaded = load_model(ModelConfig(name="smollm2-135m"))
    assert loaded.revision == "sha256:b179c9523d0e"
    assert weights.verify("smollm2-135m")["guards"]["loss"] == pytest.approx(2.195, abs=0.01)
    assert loaded.tokenizer.tokenize(" 87 and 100") == ["Ġ", "8", "7", "Ġand", "Ġ", "1", "0", "0"]
    batch = loaded.tokenizer("The sun rises in the east and sets in the west.", return_tensors="pt")
    with torch.inference_mode():
        assert float(loaded.model(**batch, labels=batch["input_ids"]).loss) < 3.0
