"""Conversion of embedded weights, and the guards that refuse a conversion which went wrong in silence.

GGUF is dequantized once and stored as bfloat16: its rounding (2^-9 relative) is far below that of 4-bit weights, the
file is half as large, and float32 machines then compute with the very same weights as bfloat16 ones.

Guards, on the folder as it will be loaded: token ids or pieces of a known text (one transformers release loses this
GGUF's byte-level pre-tokenizer and still generates text), and the mean loss of a plain English sentence, in nats per
token: about 2.2 when all is well, about 12 with a broken tokenizer, ln 49152 = 10.8 for a uniform guess.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from spillover.errors import MachineError

_DIGITS = " 87 and 100"
_SENTENCE = "The sun rises in the east and sets in the west."
_MAX_LOSS = 3.0
_SAME_MATRIX = 0.99  # mean cosine of rows; two quantizations of one matrix reach 0.998, unrelated ones 0
_GREETING_IDS = [101, 7592, 2088, 102]  # "hello world" in BERT's uncased vocabulary
_FIX = "Install the pinned versions with: pip install -c constraints.txt spillover"


@contextmanager
def quiet() -> Generator[None]:
    """Without transformers' progress bars and remarks."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def convert_gguf(raw: Path, ready: Path) -> dict[str, Any]:
    """Write the GGUF in `raw` to `ready` as plain safetensors with its tokenizer."""
    gguf = next(raw.glob("*.gguf")).name
    with quiet(), redirect_stderr(StringIO()):  # the dequantizer's bar heeds no setting
        tokenizer = AutoTokenizer.from_pretrained(raw, gguf_file=gguf)
        model = AutoModelForCausalLM.from_pretrained(raw, gguf_file=gguf, dtype=torch.bfloat16)
        # The weights are plain tensors by now, but the quantizer would write its own format and refuse training.
        for leftover in ("hf_quantizer", "is_quantized", "quantization_method"):
            model.__dict__.pop(leftover, None)
        model.config.__dict__.pop("quantization_config", None)
        _tie(model)
        model.save_pretrained(ready)
        tokenizer.save_pretrained(ready)
        del model
        return guard_causal(ready)


def _tie(model: PreTrainedModel) -> None:
    """Make embeddings and head one matrix where the file holds the same matrix twice, at two precisions.

    The Qwen2.5 checkpoints below 3B share the two, and their GGUF stores the shared matrix once coarsely, for looking
    up, and once finely, for the head. The finer copy serves both.
    """
    head: Any = model.get_output_embeddings()
    embeddings: Any = model.get_input_embeddings()
    if head.weight is embeddings.weight or head.weight.shape != embeddings.weight.shape:
        return
    some = slice(0, 20_000, 20)
    similarity = nn.functional.cosine_similarity(head.weight[some].float(), embeddings.weight[some].float())
    if similarity.mean() > _SAME_MATRIX:
        model.config.tie_word_embeddings = True
        embeddings.weight = head.weight


def move_encoder(raw: Path, ready: Path) -> dict[str, Any]:
    """Move an encoder's files, which need no conversion."""
    for path in raw.iterdir():
        path.rename(ready / path.name)
    with quiet():
        ids = AutoTokenizer.from_pretrained(ready)("Hello world")["input_ids"]
    if ids != _GREETING_IDS:
        raise MachineError(f"The encoder's tokenizer reads 'Hello world' as {ids}, not {_GREETING_IDS}. {_FIX}")
    return {"token_ids": ids}


def guard_causal(ready: Path) -> dict[str, Any]:
    """Token pieces and sentence loss of a converted causal model."""
    tokenizer = AutoTokenizer.from_pretrained(ready)
    ids = tokenizer(_DIGITS, add_special_tokens=False)["input_ids"]
    pieces = [tokenizer.decode([index]) for index in ids]
    digits = [piece.strip() for piece in pieces if any(c.isdigit() for c in piece)]
    if tokenizer.decode(ids) != _DIGITS or digits != list("87100"):
        raise MachineError(f"The converted tokenizer splits {_DIGITS!r} into {pieces}, not single digits. {_FIX}")
    model = AutoModelForCausalLM.from_pretrained(ready, dtype=torch.float32)
    batch = tokenizer(_SENTENCE, return_tensors="pt")
    with torch.inference_mode():
        loss = float(model(**batch, labels=batch["input_ids"]).loss)
    if not loss < _MAX_LOSS:
        raise MachineError(f"The converted model's loss on {_SENTENCE!r} is {loss:.2f}, not below 3 nats. {_FIX}")
    return {"pieces": pieces, "sentence": _SENTENCE, "loss": round(loss, 4)}
