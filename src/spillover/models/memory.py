"""Memory that a model needs while it trains and while it samples, from its shape.

Bytes, with e bytes per number (2 in bfloat16), hidden size D, MLP size I, H query and K key heads of size d, V tokens:

    weights       e per parameter; 4-bit (NF4 with double quantisation, Dettmers et al., arXiv 2305.14314): 4.127 bits
                  per weight of the layers' matrices, e for all others
    adapters      16 per trained number: itself, its gradient and Adam's two moments, in float32
    activations   per token and layer: the inputs of two norms in float32 (8 D), the dropped-out input and r numbers of
                  each adapted matrix, three MLP activations (3 e I), queries, keys and values once (e (H + 2 K) d),
                  and the output (e H d, fused attention) or the scores (e H S, not fused, S the row's length)
    recomputed    e D per token and layer, and all of the above for one layer
    head          10 per vocabulary entry and labelled position of a block: logits, float32 softmax, gradients
    keys, values  2 e K d per token and layer of each completion that is decoded

tests/models/hf/test_hf_gpu.py compares these numbers with the tensors that torch keeps: within 5 %.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.config.study import ModelConfig, TrainConfig

NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
HEAD_BLOCK = 1024  # labelled positions that go through the vocabulary head at once on a GPU
CPU_PASS = 1024  # most tokens of a training pass on a CPU, which gains nothing from more


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama family; `tied`: input and output embeddings share one matrix."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    @property
    def sides(self) -> dict[str, tuple[int, int]]:
        """Input and output size of each matrix in a layer, by its usual name."""
        d, h, k, i = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.inner
        mixing = {"q_proj": (d, h), "k_proj": (d, k), "v_proj": (d, k), "o_proj": (h, d)}
        return mixing | {"gate_proj": (d, i), "up_proj": (d, i), "down_proj": (i, d)}

    @property
    def matrices(self) -> int:
        """Parameters in the layers' matrices."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.sides.values())

    @property
    def parameters(self) -> int:
        """All parameters except biases."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.matrices + embeddings + (2 * self.layers + 1) * self.hidden


EMBEDDED = {
    "smollm2-135m": Shape(30, 576, 1536, 9, 3, 64, 49152, True),
    "qwen2.5-coder-0.5b": Shape(24, 896, 4864, 14, 2, 64, 151936, True),
    "qwen2.5-coder-1.5b": Shape(28, 1536, 8960, 12, 2, 128, 151936, True),
}
QWEN_7B = Shape(28, 3584, 18944, 28, 4, 128, 152064, False)


SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
)


def shape_in(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes."""
    text = config.get("text_config") or config
    heads, hidden = text["num_attention_heads"], text["hidden_size"]
    return Shape(
        layers=text["num_hidden_layers"],
        hidden=hidden,
        inner=text["intermediate_size"],
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or hidden // heads,
        vocabulary=text["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
    )


def usual_shape(parameters: int) -> Shape:
    """A typical shape with about that many parameters, for a model of which only the size is known."""
    hidden = max(64, round(parameters**0.5 / 18 / 64) * 64)
    return Shape(27, hidden, 8 * hidden // 3, hidden // 64, max(1, hidden // 192), 64, 100_000, True)


def shape_of(model: ModelConfig, parameters: int) -> Shape:
    """From config.json in a local folder or in the hub's cache; otherwise a typical shape of that size."""
    if model.path is None:
        return EMBEDDED.get(model.name, EMBEDDED["smollm2-135m"])
    file = Path(os.path.expanduser(model.path)) / "config.json"
    try:
        if not file.is_file():
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(model.path, "config.json", revision=model.revision or "main")
            file = Path(found) if isinstance(found, str) else file
        return shape_in(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return usual_shape(parameters)


@dataclass(frozen=True)
class TrainingMemory:
    """Peak bytes of a training step; `recomputed` replaces `activations` when layers run twice.

    `merged`: a second copy of the adapted matrices, for decoding.
    """

    weights: float
    adapters: float
    activations: float
    recomputed: float
    merged: float

    def total(self, recompute: bool) -> float:
        return self.weights + self.adapters + (self.recomputed if recompute else self.activations)


def number_bytes(model: ModelConfig) -> int:
    """Bytes of one number in the model's dtype."""
    return 4 if model.dtype == "float32" else 2


def weight_bytes(shape: Shape, model: ModelConfig, size: int) -> float:
    """Bytes of the base model's weights, of `size` parameters."""
    packed = min(size, shape.matrices) if model.quantize == "4bit" else 0
    return NF4_BYTES * packed + number_bytes(model) * (size - packed)


def training_memory(
    shape: Shape, weights: float, train: TrainConfig, each: int, scores: int | None = None
) -> TrainingMemory:
    """Memory of one training; `scores`: tokens of a row where attention is not fused, None where it is."""
    tokens = max(train.micro_batch_tokens, train.max_tokens if scores is None else scores)
    layer = layer_bytes(shape, train, each, scores)
    head = 10 * shape.vocabulary * min(tokens, HEAD_BLOCK)
    kept = each * shape.hidden * (shape.layers + 4)  # between the layers, and around the first and last
    return TrainingMemory(
        weights=weights,
        adapters=16 * adapter_numbers(shape, train),
        activations=tokens * shape.layers * layer + head,
        recomputed=tokens * (kept + layer) + head,
        merged=each * shape.layers * sum(inputs * outputs for inputs, outputs in _adapted(shape, train)),
    )


def layer_bytes(shape: Shape, train: TrainConfig, each: int, scores: int | None) -> float:
    """Bytes that one layer keeps of a token for the backward pass; `scores`: row length, if attention is not fused."""
    adapted = sum(inputs + train.r for inputs, _ in _adapted(shape, train))
    mixed = shape.heads * shape.head_dim
    attention = mixed + 2 * shape.kv_heads * shape.head_dim + (mixed if scores is None else shape.heads * scores)
    return 8 * shape.hidden + each * (adapted + 3 * shape.inner + attention)


def adapter_numbers(shape: Shape, train: TrainConfig) -> int:
    """Number of trained parameters."""
    return shape.layers * train.r * sum(inputs + outputs for inputs, outputs in _adapted(shape, train))


def _adapted(shape: Shape, train: TrainConfig) -> list[tuple[int, int]]:
    """Input and output size of each adapted matrix; a matrix of an unknown name counts as hidden by hidden."""
    return [shape.sides.get(name.rpartition(".")[2], (shape.hidden, shape.hidden)) for name in train.targets]


def answer_bytes(shape: Shape, columns: int, each: int) -> float:
    """Bytes of one completion of that many tokens while it is decoded: keys and values, and a step's logits."""
    return columns * 2 * each * shape.layers * shape.kv_heads * shape.head_dim + 12 * shape.vocabulary
