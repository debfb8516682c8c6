"""Tokens a second of reading activations at every layer: ours, the same passes without hooks, plain passes, nnsight.

    ours      HFReader.read: mean and length of the stream after every block, over the answer's tokens
    bare      the same batches with the same shared prompts, no hook, nothing kept
    plain     transformers' decoder on the whole chats, right-padded, sorted by length, as many tokens a batch
    nnsight   the plain batches with nnsight saving the mean over the answer after every block

All read the same authored answers after their questions, in one process, in turns. A token counts when it belongs to a
chat, its end of turn left out. Medians over rounds, and ratios within a round: a busy machine disturbs all alike.

    OMP_NUM_THREADS=1 python benchmarks/activations.py --texts 96 --answers 2 --rounds 5 --json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any
from unittest.mock import patch

import nnsight
import torch
from torch import Tensor
from turns import authored_chats

from spillover.config.study import ModelConfig
from spillover.models.hf import forward_reader
from spillover.models.hf.forward_reader import HFReader
from spillover.models.hf.kv_cache import fused_attention
from spillover.models.hf.model import LoadedModel, load_model
from spillover.models.protocols import Chat, Reading
from spillover.models.tokens import chat_ids

_BUDGET = 1024  # tokens a batch, as ours has on a CPU


def main() -> None:
    """Run the rounds and print one line a reader."""
    arguments = _arguments()
    loaded = load_model(ModelConfig(name=arguments.model))
    chats = authored_chats(arguments.texts, arguments.answers)
    tokens = sum(end - 1 for _, _, end in (chat_ids(loaded.tokenizer, *chat) for chat in chats))
    readers: dict[str, Callable[[], None]] = {
        "ours": lambda: _ours(loaded, chats),
        "bare": lambda: _bare(loaded, chats),
        "plain": lambda: _plain(loaded, chats),
        "nnsight": lambda: _nnsight(loaded, chats),
    }
    _ours(loaded, chats[:4])
    per_cpu: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(arguments.rounds):
        for name, run in readers.items():
            started = time.process_time()
            run()
            per_cpu[name].append(tokens / (time.process_time() - started))
    rows = [
        {
            "reader": name,
            "tokens_per_cpu_second": round(median(per_cpu[name]), 1),
            "ours_times_faster": round(median(a / b for a, b in zip(per_cpu["ours"], per_cpu[name], strict=True)), 2),
        }
        for name in readers
    ]
    setting = {"threads": torch.get_num_threads(), "tokens": tokens, "dtype": str(loaded.dtype), **vars(arguments)}
    if arguments.json:
        print(json.dumps({"setting": setting, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    for row in rows:
        print("{reader:<8} {tokens_per_cpu_second:>8} tokens a CPU second"
              "  (ours is {ours_times_faster} times as fast)".format(**row))  # fmt: skip


def _ours(loaded: LoadedModel, chats: list[Chat]) -> list[Reading]:
    return list(HFReader(loaded).read(chats, range(loaded.blocks.depth + 1), None, lambda _: None))


def _bare(loaded: LoadedModel, chats: list[Chat]) -> None:
    def nothing(model: Any, ask: Any, batch: Any, kept: Any) -> Iterator[tuple[int, Reading]]:
        forward_reader._forward(model, ask.depth, batch, kept)
        return ((row.number, Reading(len(row.targets))) for row in batch)

    with patch.object(forward_reader, "_states", nothing):
        _ours(loaded, chats)


@torch.inference_mode()
def _plain(loaded: LoadedModel, chats: list[Chat]) -> None:
    with fused_attention(loaded.model):
        for ids_BT, mask_BT, _ in _batches(loaded, chats):
            loaded.model.get_decoder()(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)


@torch.inference_mode()
def _nnsight(loaded: LoadedModel, chats: list[Chat]) -> list[Tensor]:
    traced: Any = nnsight.NNsight(loaded.model.get_decoder())
    means: list[Tensor] = []
    with fused_attention(loaded.model):
        for ids_BT, mask_BT, weights_B1T in _batches(loaded, chats):
            with traced.trace(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False):
                rows = nnsight.save([])
                for block in getattr(traced, loaded.blocks.name):
                    rows.append(torch.bmm(weights_B1T, block.output.float())[:, 0])
            means += rows
    return means


def _batches(loaded: LoadedModel, chats: list[Chat]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Tokens, attention mask, and the weights that make the mean over the answer."""
    rows = sorted((chat_ids(loaded.tokenizer, *chat) for chat in chats), key=lambda row: row[2])
    while rows:
        size = max(n for n in range(1, len(rows) + 1) if n == 1 or n * (rows[n - 1][2] - 1) <= _BUDGET)
        batch, rows = rows[:size], rows[size:]
        width = batch[-1][2] - 1
        ids_BT = torch.tensor([ids[: end - 1] + [0] * (width - end + 1) for ids, _, end in batch])
        mask_BT = torch.tensor([[1] * (end - 1) + [0] * (width - end + 1) for _, _, end in batch])
        weights_B1T = torch.zeros(size, 1, width)
        for row, (_, start, end) in enumerate(batch):
            weights_B1T[row, 0, start : end - 1] = 1 / (end - 1 - start)
        yield ids_BT, mask_BT, weights_B1T


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--answers", type=int, default=2, choices=(1, 2), help="to each question")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
