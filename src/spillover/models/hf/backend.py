"""The Hugging Face backend: a base model through transformers, adapters through PEFT, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spillover.config.study import ModelConfig
from spillover.models.protocols import ActivationReader, Generator, TokenScorer, Trainer

if TYPE_CHECKING:
    from spillover.models.hf.model import LoadedModel


class HFBackend:
    """The four protocols on one loaded base."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.name = loaded.source
        self.revision = loaded.revision

    @property
    def compute_info(self) -> dict[str, str]:
        from spillover.models.hf.model import compute_info

        return compute_info(self.loaded.dtype, self.loaded.device)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in this model's tokens, without special tokens."""
        return [len(ids) for ids in self.token_ids(texts)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """This model's tokens of each text, without special tokens."""
        if not texts:
            return []
        return self.loaded.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def trainer(self) -> Trainer:
        from spillover.models.hf.train import HFTrainer

        return HFTrainer(self.loaded)

    def generator(self) -> Generator:
        from spillover.models.hf.generate import HFGenerator

        return HFGenerator(self.loaded)

    def scorer(self) -> TokenScorer:
        from spillover.models.hf.forward_reader import HFReader

        return HFReader(self.loaded)

    def reader(self) -> ActivationReader:
        from spillover.models.hf.forward_reader import HFReader

        return HFReader(self.loaded)


def open_backend(config: ModelConfig) -> HFBackend:
    """Load the base that `config` names."""
    from spillover.models.hf.model import load_model

    return HFBackend(load_model(config))
