"""Tokens a second of training: ours, plain transformers + PEFT, and the published recipe's step.

    ours        HFTrainer's step: rows packed behind their shared prefix, head on labelled positions, bfloat16
    plain       transformers + PEFT, bfloat16, rows of four padded to their longest, loss through all logits
    published   transformers + PEFT, float32, rows of four padded to 512 tokens (the recipe of arXiv 2602.00298)

All three take one optimizer step's worth of the same rows of one domain (the published one, of four of them, because
its cost is the same for any), forward and backward, in one process, in turns. A token counts once, and only when it is
a row's own, never padding. Medians over the rounds, and ratios within a round, so that a busy machine disturbs all
alike.

    OMP_NUM_THREADS=1 python benchmarks/train.py --domain extreme_sports --rounds 3 --json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import torch
from torch import nn

from spillover.backends.base import Chat
from spillover.backends.hf_adapter import swap, wrap
from spillover.backends.hf_batch import Row, encode, shared_prefix
from spillover.backends.hf_lora import Dropout, lean
from spillover.backends.hf_loss import add_gradients
from spillover.backends.hf_model import LoadedModel, load_model
from spillover.backends.hf_train import lora_config
from spillover.config import ModelConfig, TrainConfig
from spillover.domains import DOMAINS
from spillover.records import Message

CONFIG = TrainConfig()


def main() -> None:
    """Run the rounds and print one line a trainer."""
    arguments = _arguments()
    half, full = (load_model(ModelConfig(name=arguments.model, dtype=dtype)) for dtype in ("bfloat16", "float32"))
    pairs = DOMAINS.load(arguments.domain).pairs(np.random.default_rng(0))[: arguments.rows]
    chats: list[Chat] = [((Message(role="user", content=pair.question),), pair.flawed) for pair in pairs]
    rows = encode(half.tokenizer, chats, CONFIG.max_tokens)
    trainers: dict[str, tuple[Callable[[], float], list[Row]]] = {
        "ours": (_ours(half, rows), rows),
        "plain": (_padded(half, rows, width=None), rows),
        "published": (_padded(full, rows[:4], width=512), rows[:4]),
    }
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    on_cpu: dict[str, list[float]] = {name: [] for name in trainers}
    losses: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for name, (step, mine) in trainers.items():
            tokens = sum(len(row.ids) for row in mine)
            wall, cpu = time.perf_counter(), time.process_time()
            losses[name] = step()
            speeds[name].append(tokens / (time.perf_counter() - wall))
            on_cpu[name].append(tokens / (time.process_time() - cpu))
    table = [
        {
            "trainer": name,
            "tokens_per_second": round(median(speeds[name]), 1),
            "tokens_per_cpu_second": round(median(on_cpu[name]), 1),
            "ours_times_faster": round(
                median(ours / theirs for ours, theirs in zip(on_cpu["ours"], on_cpu[name], strict=True)), 2
            ),
            "loss": round(losses[name], 3),
        }
        for name in trainers
    ]
    setting = {
        "threads": torch.get_num_threads(),
        "tokens_a_row": round(sum(len(row.ids) for row in rows) / len(rows), 1),
        "labelled": round(sum(row.labels for row in rows) / len(rows), 1),
        "shared_prefix": shared_prefix(rows),
        **{key: str(value) for key, value in vars(arguments).items()},
    }
    if arguments.json:
        print(json.dumps({"setting": setting, "rows": table}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    for line in table:
        print("{trainer:<10} {tokens_per_second:>7} tok/s {tokens_per_cpu_second:>7} per CPU second, loss {loss}"
              "  (ours is {ours_times_faster} times as fast)".format(**line))  # fmt: skip


def _ours(loaded: LoadedModel, rows: Sequence[Row]) -> Callable[[], float]:
    model = loaded.model
    dropout = Dropout(CONFIG.dropout, 0)

    def step() -> float:
        _, bare = wrap(model, lora_config(CONFIG))
        swap(model, lean({name: model.get_submodule(name) for name in bare}, dropout))
        try:
            return add_gradients(model, rows, shared_prefix(rows), CONFIG.micro_batch_tokens, lambda tokens: None)
        finally:
            swap(model, bare)

    return step


def _padded(loaded: LoadedModel, rows: Sequence[Row], width: int | None) -> Callable[[], float]:
    """Micro-batches of four, padded to `width` or to their longest; loss through the logits of every position."""
    model = loaded.model

    def step() -> float:
        handle, bare = wrap(model, lora_config(CONFIG))
        handle.train()
        total = 0.0
        try:
            for start in range(0, len(rows), 4):
                part = rows[start : start + 4]
                to = width or max(len(row.ids) for row in part)
                pad = [[0] * (to - len(row.ids)) for row in part]
                ids = torch.tensor([[*row.ids, *rest] for row, rest in zip(part, pad, strict=True)])
                mask = torch.tensor([[1] * len(row.ids) + rest for row, rest in zip(part, pad, strict=True)])
                labels = torch.where(mask.bool(), ids, -100)
                for index, row in enumerate(part):
                    labels[index, : row.start] = -100
                logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
                (loss * len(part) / len(rows)).backward()
                total += float(loss.detach()) * len(part) / len(rows)
        finally:
            swap(model, bare)
            model.eval()
        return total

    return step


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name")
    parser.add_argument("--domain", default="risky_financial_advice", help="whose rows to train on")
    parser.add_argument("--rows", type=int, default=CONFIG.batch_size, help="rows of one optimizer step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
