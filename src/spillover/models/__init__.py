"""The backends. Adding one: a file here with open_backend(ModelConfig) -> Backend, and a line in this table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillover.config.study import ModelConfig
from spillover.errors import UserError
from spillover.registry import Registry

if TYPE_CHECKING:
    from spillover.models.protocols import Backend

BACKENDS = Registry(
    "backend",
    {
        "hf": "spillover.models.hf.backend:open_backend",
        "vllm": "spillover.models.vllm.backend:open_backend",
        "hosted": "spillover.models.providers.hosted:open_backend",
        "tinker": "spillover.models.providers.tinker:open_backend",
        "fake": "spillover.models.fake:open_backend",
    },
)
ANSWERS_ONLY = ("hosted", "tinker")  # no log-probabilities of given texts, no activations, no interventions
READS_AND_TRAINS_BY = {"vllm": "hf"}  # backends that use the tokenizer and trainer of another
NO_FOUR_BITS = ("vllm", *ANSWERS_ONLY, "fake")  # cannot hold a base in `quantize: 4bit`
_opened: dict[str, Backend] = {}


def check_quantize(config: ModelConfig) -> None:
    """Reject four bits for a backend that would ignore them.

    Raises:
        UserError: when the model's backend does not support them.
    """
    if config.quantize != "none" and config.backend in NO_FOUR_BITS:
        raise UserError(
            f"models.{config.name}.quantize: the {config.backend} backend does not support {config.quantize}. "
            "Leave quantize out, or set backend: hf."
        )


def open_backend(config: ModelConfig) -> Backend:
    """The backend of one base model, loaded once a process; opening another model releases the last."""
    check_quantize(config)
    key = config.hash()
    if key not in _opened:
        _opened.clear()
        _opened[key] = BACKENDS.load(config.backend)(config)
    return _opened[key]
