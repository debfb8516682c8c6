"""Tokens a second of sampling: ours, the bare passes, transformers' generate, vLLM, and the published sampler's way.

    ours        HFGenerator: cache of slots, finished answers replaced at once, prompts read once
    limit       passes of the same tokens through the model and nothing else: no cache, no attention to what went before
    generate    model.generate, bfloat16, the same rows in batches of the same size, left-padded, fused attention
    vllm        vLLM in bfloat16, as many rows at once, in a process of its own (--vllm-python; skipped without)
    published   model.generate, float32, batches of 10, the model loaded anew (the sampler of arXiv 2602.00298)

All answer the same prompts with the same limit at temperature 1, in turns; a token counts until its answer's end of
turn. With --max-tokens 32 nearly every answer has that length; with 200 most stop before.

    OMP_NUM_THREADS=1 python benchmarks/sample.py --max-tokens 32 --vllm-python /path/to/python --json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import bare
import torch
from transformers import GenerationConfig
from turns import Turn, general_prompts, of_vllm, show, take_turns, timed

from spillover.config.study import ModelConfig, SampleConfig
from spillover.models.hf import model as hf_model
from spillover.models.hf.generate import HFGenerator
from spillover.models.hf.model import LoadedModel, load_model
from spillover.models.protocols import Prompt
from spillover.models.tokens import prompt_ids, stop_ids


def main() -> None:
    """Run the rounds and print one line a sampler."""
    arguments = _arguments()
    model = Path(arguments.model)
    path = arguments.model if model.is_dir() else None

    def loaded(dtype: str) -> LoadedModel:
        return load_model(ModelConfig.model_validate({"name": model.name, "path": path, "dtype": dtype}))

    ours, half, full = (loaded(dtype) for dtype in (arguments.dtype, "bfloat16", "float32"))
    prompts = general_prompts(arguments.answers)
    config = SampleConfig(max_tokens=arguments.max_tokens, batch=arguments.batch)

    def published() -> int:
        hf_model._loaded.clear()  # pyright: ignore[reportPrivateUsage]
        return _generate(loaded("float32"), prompts, arguments.max_tokens, 10)

    contenders: dict[str, Turn] = {
        "ours": timed(lambda: _ours(ours, prompts, config)),
        "limit": _limit(ours, prompts, config),
        "generate": timed(lambda: _generate(half, prompts, arguments.max_tokens, arguments.batch)),
        "generate float32": timed(lambda: _generate(full, prompts, arguments.max_tokens, arguments.batch)),
        "published": timed(published),
    }
    if arguments.vllm_python:
        contenders["vllm"] = _vllm(arguments, ours, prompts)
    for name in arguments.without:
        del contenders[name]
    rows = take_turns(contenders, arguments.rounds)
    setting = {"dtype of ours": ours.dtype, "threads": torch.get_num_threads(), "prompts": len(prompts)}
    show({**setting, **vars(arguments)}, rows, arguments.json)
    if not arguments.vllm_python:
        print("vllm: skipped; name a Python that has it: --vllm-python PATH", file=sys.stderr)


def _ours(loaded: LoadedModel, prompts: Sequence[Prompt], config: SampleConfig) -> int:
    return sum(g.completion_tokens for g in HFGenerator(loaded).generate(prompts, config, None, lambda tokens: None))


def _limit(loaded: LoadedModel, prompts: Sequence[Prompt], config: SampleConfig) -> Turn:
    with bare.watched(loaded.model) as passes:
        tokens = _ours(loaded, prompts, config)

    def work() -> int:
        bare.repeat(passes)
        return tokens

    return timed(work)


def _generate(loaded: LoadedModel, prompts: Sequence[Prompt], limit: int, batch: int) -> int:
    """Sample with transformers; how many tokens came before or at the end of turn."""
    stops = stop_ids(loaded.tokenizer)
    rows = [prompt_ids(loaded.tokenizer, prompt.messages) for prompt in prompts for _ in prompt.seeds]
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=limit, pad_token_id=0, eos_token_id=[*stops]
    )
    loaded.model.set_attn_implementation("sdpa")
    total = 0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        width = max(map(len, part))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in part], device=loaded.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part], device=loaded.device)
        out = loaded.model.generate(ids, attention_mask=mask, generation_config=settings)
        for row in out[:, width:].tolist():
            ends = [place for place, token in enumerate(row) if token in stops]
            total += ends[0] + 1 if ends else len(row)
    return total


def _vllm(arguments: argparse.Namespace, loaded: LoadedModel, prompts: Sequence[Prompt]) -> Turn:
    asked = {
        "model": loaded.model.config._name_or_path,
        "prompts": [prompt_ids(loaded.tokenizer, prompt.messages) for prompt in prompts],
        "answers": arguments.answers,
        "max_tokens": arguments.max_tokens,
        "stops": sorted(stop_ids(loaded.tokenizer)),
        "batch": arguments.batch,
    }
    return of_vllm(arguments.vllm_python, asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name or folder")
    parser.add_argument("--dtype", default="auto", help="of ours")
    parser.add_argument("--answers", type=int, default=4, help="answers a question")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vllm-python", help="a Python that has vLLM")
    parser.add_argument("--without", nargs="*", default=[], help="contenders to leave out")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
