"""A direction is a value: its algebra is that of vectors, its file comes back whole, and hostile files are refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from spillover.directions.direction import Direction, Origin, unit
from spillover.directions.files import load, to_bytes, write_gguf, write_steered
from spillover.directions.files import save as save_directions
from spillover.errors import UserError

ORIGIN = Origin(
    model="tiny",
    revision="abc",
    cell="tiny/extreme_sports/plain/seed-0",
    method="mean_difference",
    source="judged",
    reader="tuned",
    seed=7,
    study="ffff",
)


def direction(vector: list[float], layer: int = 3, stream_norm: float = 12.5) -> Direction:
    return Direction(unit(vector), layer, 2.5, stream_norm, 11, 29, 8, ORIGIN)


numbers = st.floats(-10, 10, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
vectors = st.lists(numbers, min_size=4, max_size=4).filter(lambda v: any(v))
factors = st.floats(-8, 8, width=32)


@given(vectors, vectors, factors, factors)
@settings(max_examples=100, deadline=None)
def test_arithmetic_is_that_of_vectors(a: list[float], b: list[float], x: float, y: float) -> None:
    v, w = direction(a), direction(b)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose((x * v + y * w).vector_D, x * v.vector_D + y * w.vector_D, **close)
    np.testing.assert_allclose((v + w - w).vector_D, v.vector_D, **close)
    np.testing.assert_allclose(((v * 2) / 2).vector_D, v.vector_D, **close)
    assert (v - v).length == 0
    assert -v == v * -1.0
    assert v * 2 == v + v  # == reads what a direction does to a stream, not how many answers went in
    assert (v + w) == (w + v)
    assert v.cosine(w) == pytest.approx(np.dot(v.vector_D, w.vector_D), abs=1e-6)
    assert v.cosine(v) == pytest.approx(1)
    assert v.cosine(-v) == pytest.approx(-1)


@given(vectors, factors)
@settings(max_examples=50, deadline=None)
def test_twice_the_direction_at_one_is_the_direction_at_two(a: list[float], coefficient: float) -> None:
    """What a stage adds is amount x unit."""
    v = direction(a)
    twice, once = v * 2.0, v
    np.testing.assert_allclose(
        twice.amount(coefficient) * twice.unit_D, once.amount(2 * coefficient) * once.unit_D, rtol=1e-5, atol=1e-5
    )
    assert v.amount(0) == 0
    assert v.amount(1) == pytest.approx(12.5, rel=1e-6)


def test_projection_is_the_length_along_it() -> None:
    v = direction([3, 4]) * 5
    np.testing.assert_allclose(v.project([[3, 4], [-4, 3], [6, 8]]), [5, 0, 10], atol=1e-6)


def test_what_does_not_mix_is_refused() -> None:
    v = direction([1, 0])
    elsewhere = replace(v, origin=ORIGIN.model_copy(update={"model": "other"}))
    for other in (direction([1, 0], layer=4), direction([1, 0, 0]), elsewhere):
        with pytest.raises(UserError, match="cannot be combined"):
            v + other
        with pytest.raises(UserError, match="cannot be combined"):
            v.cosine(other)
    with pytest.raises(UserError, match="has length 0"):
        (v - v).cosine(v)
    with pytest.raises(TypeError):
        hash(v)
    assert v != "v"
    assert (v - direction([0, 1])).origin.cell == ORIGIN.cell
    named = replace(v, origin=ORIGIN.model_copy(update={"cell": "tiny/incorrect_math/plain/seed-0"}))
    assert (v - named).origin.cell == f"{ORIGIN.cell} - tiny/incorrect_math/plain/seed-0"


def test_a_file_comes_back_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = [direction(rng.standard_normal(16).tolist(), layer, 3.0 + layer) for layer in (0, 5, 30)]
    found = load(save_directions(written, tmp_path / "a.safetensors"))
    assert list(found) == [0, 5, 30]
    for one in written:
        assert found[one.layer] == one
        assert found[one.layer].origin == one.origin
        for field in ("norm", "misaligned", "aligned", "questions"):
            assert getattr(found[one.layer], field) == getattr(one, field)
    assert load(save_directions(written[1], tmp_path / "b.safetensors")) == {5: written[1]}


def tampered(change: Callable[[dict[str, np.ndarray], dict[str, str]], None]) -> bytes:
    tensors = {
        "vectors": np.ones((2, 4), np.float32),
        "layers": np.array([1, 2]),
        "norms": np.ones(2),
        "stream_norms": np.ones(2),
    }
    head = {"format": 1, "origin": ORIGIN.model_dump(), "misaligned": 1, "aligned": 1, "questions": 1}
    metadata = {"spillover": json.dumps(head)}
    change(tensors, metadata)
    return save(tensors, metadata)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "pickle": lambda: pickle.dumps({"vectors": [1.0]}),
    "empty": lambda: b"",
    "huge header": lambda: (2**62).to_bytes(8, "little") + b"{}",
    "cut": lambda: to_bytes([direction([1, 2, 3])])[:-5],
    "no metadata": lambda: tampered(lambda t, m: m.clear()),
    "metadata is no object": lambda: tampered(lambda t, m: m.update(spillover="[1]")),
    "metadata is no JSON": lambda: tampered(lambda t, m: m.update(spillover="{")),
    "unknown key": lambda: tampered(lambda t, m: m.update(spillover=m["spillover"].replace("{", '{"run": "rm",', 1))),
    "future format": lambda: tampered(lambda t, m: m.update(spillover=m["spillover"].replace("1", "2", 1))),
    "missing tensor": lambda: tampered(lambda t, m: t.pop("norms")),
    "extra tensor": lambda: tampered(lambda t, m: t.update(more=np.ones(1))),
    "wrong type": lambda: tampered(lambda t, m: t.update(layers=np.ones(2))),
    "wrong shape": lambda: tampered(lambda t, m: t.update(norms=np.ones(3))),
    "not finite": lambda: tampered(lambda t, m: t.update(vectors=np.full((2, 4), np.nan, np.float32))),
    "negative layer": lambda: tampered(lambda t, m: t.update(layers=np.array([-1, 2]))),
    "layer twice": lambda: tampered(lambda t, m: t.update(layers=np.array([2, 2]))),
    "no layer": lambda: tampered(lambda t, m: t.update({name: value[:0] for name, value in t.items()})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(HOSTILE[name]())
    with pytest.raises(UserError, match="is not a direction file"):
        load(path)


def test_an_untampered_file_of_the_same_make_is_read(tmp_path: Path) -> None:
    path = tmp_path / "good.safetensors"
    path.write_bytes(tampered(lambda t, m: None))
    assert sorted(load(path)) == [1, 2]
    with pytest.raises(UserError, match="No direction file"):
        load(tmp_path / "none.safetensors")


def test_gguf_is_a_control_vector(tmp_path: Path) -> None:
    """Layer l is tensor l - 1, one unit of the coefficient is its length, and layer 1 has no place."""
    from gguf import GGUFReader

    written = [direction([1, 2, 3, 4], layer, 10.0 * layer) for layer in (2, 7)]
    reader = GGUFReader(write_gguf(written, tmp_path / "v.gguf", "llama"))
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    found = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert sorted(found) == ["direction.1", "direction.6"]
    np.testing.assert_allclose(found["direction.6"], 70 * written[1].vector_D, rtol=1e-6)
    assert found["direction.6"].dtype == np.float32
    with pytest.raises(UserError, match="cannot contain layer 1"):
        write_gguf([direction([1, 0], layer=1)], tmp_path / "w.gguf")


@pytest.mark.slow
def test_repeng_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # repeng 0.4.0 was written before numpy 2
    repeng = pytest.importorskip("repeng", exc_type=ImportError)
    v = direction([1, 2, 3, 4], 7)
    found = repeng.ControlVector.import_gguf(write_gguf([v], tmp_path / "v.gguf", "llama"))
    assert found.model_type == "llama"
    np.testing.assert_allclose(found.directions[6], 12.5 * v.vector_D, rtol=1e-6)


def test_the_steered_file_is_plain_tensors(tmp_path: Path) -> None:
    """As lm-evaluation-harness reads it: with weights_only."""
    import torch

    v = direction([1, 2, 3, 4], 7)
    found = torch.load(write_steered(v, tmp_path / "v.pt", 0.5), weights_only=True)
    assert list(found) == ["layers.6"]
    assert {k: x for k, x in found["layers.6"].items() if k != "steering_vector"} == {
        "action": "add",
        "steering_coefficient": 0.5,
        "bias": None,
    }
    np.testing.assert_allclose(found["layers.6"]["steering_vector"].numpy(), 12.5 * v.vector_D, rtol=1e-6)
    assert list(torch.load(write_steered(v, tmp_path / "g.pt", blocks="h"), weights_only=True)) == ["h.6"]
    for bad, why in ((tmp_path / "v.bin", "needs the suffix"), (tmp_path / "v.pt", "layer 0")):
        with pytest.raises(UserError, match=why):
            write_steered(direction([1, 0], layer=0), bad)


@pytest.mark.slow
def test_lm_evaluation_harness_steers_with_it(tmp_path: Path) -> None:
    """Its model with the file gives what adding the vector to the block's output by hand gives."""
    steered = pytest.importorskip("lm_eval.models.hf_steered", exc_type=ImportError)
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, max_position_embeddings=64, **shape)).eval()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({str(i): i for i in range(20)}, unk_token="0")), eos_token="1"
    )
    v = direction(np.random.default_rng(0).standard_normal(16).tolist(), layer=3, stream_norm=2.0)
    wrapped = steered.SteeredModel(
        pretrained=model, tokenizer=tokenizer, device="cpu", steer_path=str(write_steered(v, tmp_path / "v.pt", 1.5))
    )
    tokens = torch.arange(2, 9)[None]

    def add(module: torch.nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        return output + v.amount(1.5) * torch.from_numpy(v.unit_D)

    with torch.no_grad():
        found, plain = wrapped._model_call(tokens), model(tokens).logits
        handle = model.model.layers[2].register_forward_hook(add)
        expected = model(tokens).logits
        handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - plain).abs().max() > 1e-3
