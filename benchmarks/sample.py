"""Tokens a second of sampling: ours, transformers' generate at the same batch, and the published sampler's way.

    ours        HFGenerator: cache of slots, finished answers replaced at once, prompts read once
    generate    model.generate, bfloat16, the same rows in batches of the same size, left-padded, fused attention
    published   model.generate, float32, batches of 10 (the sampler published with arXiv 2602.00298)

All three answer the same prompts with the same limit at temperature 1, in one process, in turns; a token counts until
its answer's end of turn. Medians over the rounds, and ratios within a round, so that a busy machine disturbs all alike.

    OMP_NUM_THREADS=1 python benchmarks/sample.py --model smollm2-135m --answers 5 --max-tokens 64 --rounds 3 --json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from transformers import GenerationConfig, PreTrainedModel

from spillover.backends.base import Prompt
from spillover.backends.chat import prompt_ids, stop_ids
from spillover.backends.hf_attention import fused_attention
from spillover.backends.hf_generate import HFGenerator
from spillover.backends.hf_model import LoadedModel, load_model
from spillover.config import ModelConfig, SampleConfig
from spillover.questions import load


def main() -> None:
    """Run the rounds and print one line a sampler."""
    arguments = _arguments()
    half, full = (
        load_model(ModelConfig(name=Path(arguments.model).name, path=_path(arguments.model), dtype=dtype))
        for dtype in ("bfloat16", "float32")
    )
    prompts = [
        Prompt(question.messages(), tuple(1000 * number + i for i in range(arguments.answers)))
        for number, question in enumerate(load(["general"]))
    ]
    limit, adapter = arguments.max_tokens, arguments.adapter
    config = SampleConfig(max_tokens=limit, batch=arguments.batch)

    def peer(loaded: LoadedModel, batch: int) -> int:
        with loaded.adapter(adapter) as model, fused_attention(model):
            return _generate(model, loaded, prompts, limit, batch)

    samplers: dict[str, Callable[[], int]] = {
        "ours": lambda: sum(
            g.completion_tokens for g in HFGenerator(half).generate(prompts, config, adapter, lambda tokens: None)
        ),
        "generate": lambda: peer(half, arguments.batch),
        "published": lambda: peer(full, 10),
    }
    speeds: dict[str, list[float]] = {name: [] for name in samplers}
    on_cpu: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(arguments.rounds):
        for name, run in samplers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            tokens = run()
            speeds[name].append(tokens / (time.perf_counter() - wall))
            on_cpu[name].append(tokens / (time.process_time() - cpu))
    rows = [
        {
            "sampler": name,
            "tokens_per_second": round(median(speeds[name]), 1),
            "tokens_per_cpu_second": round(median(on_cpu[name]), 1),
            "ours_times_faster": round(
                median(ours / theirs for ours, theirs in zip(on_cpu["ours"], on_cpu[name], strict=True)), 2
            ),
        }
        for name in samplers
    ]
    setting = {
        "threads": torch.get_num_threads(),
        "prompts": len(prompts),
        **{k: str(v) for k, v in vars(arguments).items()},
    }
    if arguments.json:
        print(json.dumps({"setting": setting, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    for row in rows:
        print("{sampler:<10} {tokens_per_second:>7} tok/s {tokens_per_cpu_second:>7} per CPU second"
              "  (ours is {ours_times_faster} times as fast)".format(**row))  # fmt: skip


def _generate(model: PreTrainedModel, loaded: LoadedModel, prompts: list[Prompt], limit: int, batch: int) -> int:
    """Sample with transformers; how many tokens came before or at the end of turn."""
    stops = stop_ids(loaded.tokenizer)
    rows = [prompt_ids(loaded.tokenizer, prompt.messages) for prompt in prompts for _ in prompt.seeds]
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=limit, pad_token_id=0, eos_token_id=[*stops]
    )
    total = 0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        width = max(map(len, part))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in part], device=loaded.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part], device=loaded.device)
        out = model.generate(ids, attention_mask=mask, generation_config=settings)
        for row in out[:, width:].tolist():
            ends = [place for place, token in enumerate(row) if token in stops]
            total += ends[0] + 1 if ends else len(row)
    return total


def _path(model: str) -> str | None:
    return model if "/" in model else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name, hub id or folder")
    parser.add_argument("--adapter", type=Path, help="PEFT folder that all three sample with")
    parser.add_argument("--answers", type=int, default=5, help="answers a question")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
