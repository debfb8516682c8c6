"""Tokens a second of steered sampling: ours steered, ours untouched, and nnsight over transformers' generate.

    untouched  HFGenerator, no intervention, no hook
    steered    the same prompts, each with an intervention of its own: directions, amounts and layers all differ
    nnsight    model.generate of the same rows, in batches of the same size, left-padded, fused attention; one vector is
               added after one block at every step; in float32, and in bfloat16 as the weights are published

All answer the same prompts with the same limit at temperature 1, in one process, in turns; a token counts until its
answer's end of turn.

    OMP_NUM_THREADS=1 python benchmarks/steer.py --answers 4 --max-tokens 32 --rounds 5 --json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import nnsight
import numpy as np
import torch
from turns import Turn, general_prompts, show, take_turns, timed

from spillover.config.study import ModelConfig, SampleConfig
from spillover.models.hf.generate import HFGenerator
from spillover.models.hf.kv_cache import fused_attention
from spillover.models.hf.model import LoadedModel, load_model
from spillover.models.protocols import Intervention, Prompt
from spillover.models.tokens import prompt_ids, stop_ids


def main() -> None:
    """Run the rounds and print one line a sampler."""
    arguments = _arguments()
    loaded = load_model(ModelConfig(name=arguments.model))
    plain = general_prompts(arguments.answers)
    steered = [replace(prompt, intervention=_intervention(loaded, number)) for number, prompt in enumerate(plain)]
    config = SampleConfig(max_tokens=arguments.max_tokens, batch=arguments.batch)

    def ours(prompts: list[Prompt]) -> int:
        answers = HFGenerator(loaded).generate(prompts, config, None, lambda tokens: None)
        return sum(answer.completion_tokens for answer in answers)

    samplers: dict[str, Turn] = {
        "steered": timed(lambda: ours(steered)),
        "untouched": timed(lambda: ours(plain)),
        **{
            f"nnsight {dtype}": _nnsight(load_model(ModelConfig(name=arguments.model, dtype=dtype)), plain, arguments)
            for dtype in ("float32", "bfloat16")
        },
    }
    rows = take_turns(samplers, arguments.rounds)
    setting = {"dtype of ours": loaded.dtype, "threads": torch.get_num_threads()}
    show({**setting, **vars(arguments)}, rows, arguments.json)


def _intervention(loaded: LoadedModel, number: int) -> Intervention:
    vector_D = np.random.default_rng(number).standard_normal(loaded.blocks.width)
    unit_D = (vector_D / np.linalg.norm(vector_D)).astype(np.float32)
    return Intervention(unit_D, (1 + number % loaded.blocks.depth,), "add", 1.0 + number / 10, "answer")


def _nnsight(loaded: LoadedModel, prompts: list[Prompt], arguments: argparse.Namespace) -> Turn:
    return timed(lambda: _traced(loaded, prompts, arguments.max_tokens, arguments.batch))


def _traced(loaded: LoadedModel, prompts: list[Prompt], limit: int, batch: int) -> int:
    traced: Any = nnsight.LanguageModel(loaded.model, tokenizer=loaded.tokenizer)
    block = traced.get(f"model.{loaded.blocks.name}")[loaded.blocks.depth // 2]
    added = torch.ones(loaded.blocks.width, dtype=loaded.dtype)
    stops = stop_ids(loaded.tokenizer)
    settings = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": limit,
                "pad_token_id": 0, "eos_token_id": [*stops]}  # fmt: skip
    rows = [prompt_ids(loaded.tokenizer, prompt.messages) for prompt in prompts for _ in prompt.seeds]
    total = 0
    with fused_attention(loaded.model):
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            width = max(map(len, part))
            inputs = {
                "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in part]),
                "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part]),
            }
            with traced.generate(**settings) as tracer:
                with tracer.invoke(inputs):  # noqa: SIM117 (a line of its own for each context, or nnsight fails)
                    with tracer.iter[:]:
                        block.output = block.output + added
                with tracer.invoke():  # nothing that stands behind an open loop is run
                    out = tracer.result.save()
            for row in out[:, width:].tolist():
                ends = [place for place, token in enumerate(row) if token in stops]
                total += ends[0] + 1 if ends else len(row)
    return total


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name")
    parser.add_argument("--answers", type=int, default=4, help="answers a question")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
