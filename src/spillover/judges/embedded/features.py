"""What the probe judge sees of an answer: frozen features of two small models that read it after its question.

x = [SmolLM2-135M-Instruct's residual stream after blocks 14 and 18, mean over the answer's tokens (2 x 576); MiniLM's
embedding a of the answer (384); the cosine of a and q, the embedding of the question, which says whether the answer is
about it]. Only the first `READ_TOKENS` tokens of an answer are read. Log-probabilities with and without the question,
the end token's state, further blocks and every block of Qwen2.5-Coder-0.5B were tried and brought nothing on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spillover.config.study import ModelConfig
from spillover.models.embedded import weights
from spillover.models.protocols import Chat, Progress

if TYPE_CHECKING:
    from spillover.models.embedded.sentence_encoder import Embedder
    from spillover.models.hf.forward_reader import HFReader

MODEL, ENCODER = "smollm2-135m", "minilm"
LAYERS = (14, 18)
READ_TOKENS = 120
_WIDTHS = (2 * 576, 384, 1)  # of the states, the embedding, the cosine
_WEIGHTS = (1.2, 1.0, 0.3)  # of each in the kernel's distance


@dataclass(frozen=True)
class FeatureReader:
    """The two models, loaded."""

    reader: HFReader
    embedder: Embedder

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in the language model's tokens."""
        return [len(row) for row in self._ids(texts)]

    def read(self, chats: Sequence[Chat], progress: Progress) -> Iterator[NDArray[np.float32]]:
        """Yield the features (D,) of each chat, in order."""
        answers = self._openings([answer for _, answer in chats])
        questions = list(dict.fromkeys(messages[-1].content for messages, _ in chats))
        about = dict(zip(questions, self.embedder.embed(questions), strict=True))
        readings = self.reader.read(
            [(messages, answer) for (messages, _), answer in zip(chats, answers, strict=True)], LAYERS, None, progress
        )
        for (messages, _), reading, a_D in zip(chats, readings, self.embedder.embed(answers), strict=True):
            assert reading.states_LD is not None
            yield np.concatenate([reading.states_LD.ravel(), a_D, [about[messages[-1].content] @ a_D]])

    def _openings(self, texts: Sequence[str]) -> list[str]:
        """Each text's first `READ_TOKENS` tokens."""
        decode = self.reader.loaded.tokenizer.decode
        return [
            text if len(row) <= READ_TOKENS else str(decode(row[:READ_TOKENS]))
            for text, row in zip(texts, self._ids(texts), strict=True)
        ]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.reader.loaded.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def block_weights() -> NDArray[np.float32]:
    """How much each feature counts, so that a block's weight does not depend on its width."""
    parts = [np.full(width, w / width**0.5) for width, w in zip(_WIDTHS, _WEIGHTS, strict=True)]
    return np.concatenate(parts).astype(np.float32)


def fingerprint() -> str:
    """Which features these are; heads fitted on others cannot use them."""
    models = " ".join(f"{name}@{weights.embedded(name).revision}" for name in (MODEL, ENCODER))
    return f"{models} blocks={','.join(map(str, LAYERS))} embedding=answer,cosine tokens={READ_TOKENS}"


@cache
def open_features() -> FeatureReader:
    """Load the two models, once a process; a study of the same base model shares it."""
    from spillover.models.embedded.sentence_encoder import open_embedder
    from spillover.models.hf.forward_reader import HFReader
    from spillover.models.hf.model import load_model

    loaded = load_model(ModelConfig(name=MODEL))
    return FeatureReader(HFReader(loaded, recurring=True), open_embedder(loaded.dtype))
