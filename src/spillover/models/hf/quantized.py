"""A base model in four bits (NF4, Dettmers et al., arXiv 2305.14314), through bitsandbytes.

The layers' matrices take 4.127 bits a weight and are spread out to the compute dtype for each product, so a step is no
faster, but a 7B model fits a small card. Adapters stay beside them: merged, their digits would be rounded away.

Where bitsandbytes is installed, PEFT imports it in every worker that trains, and on a processor with AVX-512's bfloat16
it then says that the package `kernels` is missing. The product that this is for is never used here (`keep_plain`), so
that one remark is left out.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from spillover.errors import MissingExtra


def _matters(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_matters)


def four_bit(dtype: torch.dtype) -> BitsAndBytesConfig:
    """How to load it, computing in `dtype`.

    Raises:
        MissingExtra: without bitsandbytes.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingExtra.of("bitsandbytes", "quantized")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_plain(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking weights for the processor: that form has no gradient."""
    for module in model.modules():
        if "support_avx512bf16_for_cpu" in vars(module):
            vars(module)["support_avx512bf16_for_cpu"] = False
