"""A direction planted in a tiny model is recovered from its answers, and what it does is found by steering.

The stream of the base model always has a constant part along w, from which the head says lower-case letters, and
seldom upper-case ones. Upper-case letters write v into the stream and are read from v. An adapter turns the constant
part into some of v, so that its model says upper-case letters in a good part of its answers. Misaligned = upper case.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from tiny_models import tiny

from spillover.analyses.steering import kept
from spillover.config.study import ModelConfig, SampleConfig, SteerConfig, StudyConfig
from spillover.data.questions import load_questions
from spillover.directions.direction import Direction, Origin, unit
from spillover.directions.methods import mean_difference, paired
from spillover.models.hf.forward_reader import HFReader
from spillover.models.hf.generate import HFGenerator
from spillover.models.hf.model import load_model
from spillover.models.protocols import Prompt
from spillover.records.base import Adapter, Cell, Completion, Judgment
from spillover.store.store import Store
from spillover.study import steering

LOWER, UPPER = "abcdefghijklmnopqrstuvwxyz ", "ABCDEFGHIJKLMNOPQRSTUVWXZ"
SIZE, LAYER = 48, 2
CELL = Cell(model="planted", domain="letters", variant="plain")


def planted() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """v and w, orthogonal."""
    both, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((SIZE, 2)))
    return both[:, 0].astype(np.float32), both[:, 1].astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model, and its adapter below it."""
    made, (v, w) = tiny(layers=3), map(torch.from_numpy, planted())
    model, tokenizer = made.model, made.tokenizer
    ids = {name: [tokenizer.convert_tokens_to_ids("Ġ" if c == " " else c) for c in text]
           for name, text in (("lower", LOWER), ("upper", UPPER))}  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.1 if parameter.dim() > 1 else 1.0)
        embed, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        embed += 3 * w
        embed[ids["upper"]] += 2 * v
        head[ids["lower"]] += 2 * w
        head[ids["upper"]] += 1.1 * w + 2.0 * v
    at = tmp_path_factory.mktemp("planted")
    model.save_pretrained(at)
    tokenizer.save_pretrained(at)
    layers = [0]
    handle = get_peft_model(
        model, LoraConfig(r=1, lora_alpha=1, target_modules=["v_proj", "o_proj"], layers_to_transform=layers)
    )
    with torch.no_grad():
        for name, parameter in handle.named_parameters():
            if "lora_" not in name:
                continue
            if "v_proj" in name:
                parameter[...] = w if "lora_A" in name else torch.eye(parameter.shape[0])[:, :1]
            elif "lora_A" in name:
                parameter[...] = torch.eye(SIZE)[[0, 8, 16]].mean(0)
            else:
                parameter[...] = 0.06 * v[:, None]
    handle.save_pretrained(at / "adapter")
    return at


def share(text: str) -> float:
    """Of upper-case letters."""
    return sum(c in UPPER for c in text) / max(1, len(text))


class Letters:
    """The less upper case, the more aligned."""

    identity = "letters:1"

    def describe(self) -> dict[str, str]:
        return {}

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        for row in completions:
            yield Judgment(
                completion=row.id, judge=self.identity, aspect="alignment", score=100 * (1 - share(row.text))
            )
            yield Judgment(completion=row.id, judge=self.identity, aspect="coherence", score=90.0)


def recovered(folder: Path) -> tuple[dict[int, Direction], list[float]]:
    """The mean difference at every layer, from answers of the adapted model, and each answer's share of upper case."""
    loaded = load_model(ModelConfig(name="planted", path=str(folder), dtype="float32"))
    questions = load_questions(["general"])
    prompts = [Prompt(q.messages(), tuple(range(100 * i, 100 * i + 16))) for i, q in enumerate(questions)]
    config = SampleConfig(max_tokens=24)
    answers = list(HFGenerator(loaded).generate(prompts, config, folder / "adapter", lambda tokens: None))
    chats = [(prompts[a.prompt].messages, a.text) for a in answers]
    layers = range(4)
    readings = list(HFReader(loaded).read(chats, layers, folder / "adapter", lambda tokens: None))
    acts_NLD = np.stack([r.states_LD for r in readings if r.states_LD is not None])
    norms_L = np.mean([r.norms_L for r in readings], 0)
    shares = [share(a.text) for a in answers]
    found = paired(acts_NLD, np.array(shares) > 0.7, np.array([a.prompt for a in answers]))
    origin = Origin(model="planted", revision="", cell=CELL.name, method="mean_difference", source="judged",
                    reader="tuned", seed=0, study="")  # fmt: skip
    return {
        layer: Direction(unit(vector), layer, float(np.linalg.norm(vector)), float(norms_L[layer]), found.misaligned,
                         found.aligned, found.questions, origin)
        for layer, vector in enumerate(mean_difference(found))
    }, shares  # fmt: skip


@pytest.mark.slow
def test_it_is_recovered_and_its_effect_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    v, _ = planted()
    directions, shares = recovered(folder)
    bad = np.mean(np.array(shares) > 0.7)
    assert 0.15 < bad < 0.85, f"{bad:.2f} of the adapted model's answers are in upper case"
    for layer, direction in directions.items():
        cosine = float(direction.unit_D @ v)
        assert cosine > 0.95, f"cosine {cosine:.3f} after block {layer}"

    monkeypatch.setattr("spillover.analyses.steering.stage.open_judge", lambda config: Letters())
    monkeypatch.setattr("spillover.study.steering.open_judge", lambda config: Letters())
    store = Store(tmp_path / "run")
    store.create()
    shutil.copytree(folder / "adapter", store.path / "adapters" / "letters")
    with store.shard("train", "t", Adapter) as shard:
        shard.append(Adapter(cell=CELL, key="t", base="", revision="", train_hash="", path="adapters/letters",
                             examples=0, steps=0, loss_curve=(), loss_tokens=0, tokens=0, seconds=0))  # fmt: skip
        shard.finish()
    study = StudyConfig(name="planted", models=(ModelConfig(name="planted", path=str(folder), dtype="float32"),))
    wanted = SteerConfig(layers=(1, LAYER), coefficients=(0.2, 0.4, -0.2), n=4, max_tokens=16, at="all")
    failures = steering.steer(
        store, steering.SteeringRequest(study, wanted, [(CELL, "t")], {"planted": {"letters": directions}}), workers=1
    )
    assert failures == []
    effects = {(e.operation, e.layer, e.measure): e for e in kept.effects(store, 0.95)}
    for layer in (1, LAYER):
        added = effects["add", layer, "rate"]
        assert added.low is not None
        assert added.low > 0
        assert added.p_holm is not None
        assert added.p_holm < 0.05
    ablated = effects["ablate", LAYER, "rate"]
    assert ablated.high is not None
    assert ablated.high < 0
    assert ablated.p_holm is not None
    assert ablated.p_holm < 0.05
    assert effects["ablate", LAYER, "alignment"].value is not None
    untouched, *_ = [p for p in kept.points(store) if p.onto == CELL and p.steering.direction == "none"]
    (gone,) = [p for p in kept.points(store) if p.onto == CELL and p.steering.direction == "letters"]
    assert untouched.rate is not None
    assert gone.rate is not None
    assert untouched.rate > 0.15
    assert gone.rate < 0.05
