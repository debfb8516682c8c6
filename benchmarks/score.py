"""Tokens a second of scoring: ours, the same passes without statistics, and the published loop over texts and tokens.

    ours        HFReader.score: log-probability, mean, deviation, entropy and rank at every answer token
    bare        the same batches through backbone and head at the answer positions, and nothing computed from the logits
    published   as the notebook of arXiv 2602.00298 scores a text: float32, one text at a time, a function for min-k and
                one for the zlib ratio, each with its own pass and loss over the whole chat; min-k takes a log-softmax
                of the vocabulary for every token, in a Python loop
    one pass    the kinder reading, as its functions with context do: one pass a text serves both metrics, each of which
                loops over the answer's tokens

All read the same authored answers after their questions, in one process, in turns. A token counts when it belongs to
an answer; the published loops run over answer tokens only, as ours does. Medians over rounds, and ratios within a
round, so that a busy machine disturbs all alike.

    OMP_NUM_THREADS=1 python benchmarks/score.py --texts 96 --rounds 3 --json
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor

from spillover.backends import hf_reader
from spillover.backends.base import Chat
from spillover.backends.chat import chat_ids
from spillover.backends.hf_model import LoadedModel, load_model
from spillover.backends.hf_reader import HFReader
from spillover.config import ModelConfig
from spillover.domains import DOMAINS
from spillover.records import Message


def main() -> None:
    """Run the rounds and print one line a scorer."""
    arguments = _arguments()
    half, full = (
        load_model(ModelConfig(name=arguments.model, dtype=dtype)) for dtype in ("bfloat16", "float32")
    )  # fmt: skip
    chats = _chats(arguments.texts)
    scorers: dict[str, Callable[[], int]] = {
        "ours": lambda: _ours(half, chats),
        "bare": lambda: _bare(half, chats),
        "published": lambda: sum(_published(full, chat) for chat in chats[: arguments.published]),
        "one pass": lambda: sum(_one_pass(full, chat) for chat in chats[: arguments.published]),
    }
    _ours(half, chats[:4])
    per_cpu: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(arguments.rounds):
        for name, run in scorers.items():
            started = time.process_time()
            per_cpu[name].append(run() / (time.process_time() - started))
    rows = [
        {
            "scorer": name,
            "answer_tokens_per_cpu_second": round(median(per_cpu[name]), 1),
            "ours_times_faster": round(median(a / b for a, b in zip(per_cpu["ours"], per_cpu[name], strict=True)), 2),
        }
        for name in scorers
    ]
    setting = {"threads": torch.get_num_threads(), **vars(arguments)}
    if arguments.json:
        print(json.dumps({"setting": setting, "rows": rows}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    for row in rows:
        print("{scorer:<10} {answer_tokens_per_cpu_second:>8} answer tokens a CPU second"
              "  (ours is {ours_times_faster} times as fast)".format(**row))  # fmt: skip


def _ours(loaded: LoadedModel, chats: list[Chat]) -> int:
    return sum(reading.tokens for reading in HFReader(loaded).score(chats, None, lambda _: None))


def _bare(loaded: LoadedModel, chats: list[Chat]) -> int:
    """Ours with the statistics taken out; the logits are touched once, so that they are computed."""
    kept = hf_reader._token_statistics

    def nothing(logits_PV: Tensor, targets_P: Tensor) -> Tensor:
        return logits_PV[:, :5].float()

    hf_reader._token_statistics = nothing
    try:
        return _ours(loaded, chats)
    finally:
        hf_reader._token_statistics = kept


@torch.no_grad()
def _published(loaded: LoadedModel, chat: Chat) -> int:
    ids, start, end = chat_ids(loaded.tokenizer, *chat)
    ids_1T = torch.tensor([ids])
    _min_k(_token_logprobs(loaded.model(ids_1T, labels=ids_1T).logits, ids_1T, start, end))
    loss = loaded.model(ids_1T, labels=ids_1T).loss.item()
    _zlib_ratio(torch.exp(torch.tensor(loss)).item(), chat[1])
    return end - start


@torch.no_grad()
def _one_pass(loaded: LoadedModel, chat: Chat) -> int:
    ids, start, end = chat_ids(loaded.tokenizer, *chat)
    ids_1T = torch.tensor([ids])
    logits_1TV = loaded.model(ids_1T, labels=ids_1T).logits
    _min_k(_token_logprobs(logits_1TV, ids_1T, start, end))
    _zlib_ratio(float(np.exp(-np.mean(_token_logprobs(logits_1TV, ids_1T, start, end)))), chat[1])
    return end - start


def _token_logprobs(logits_1TV: Tensor, ids_1T: Tensor, start: int, end: int) -> list[float]:
    found: list[float] = []
    for place in range(start, end):
        logprobs_V = torch.nn.functional.log_softmax(logits_1TV[0, place - 1], dim=-1)
        found.append(logprobs_V[ids_1T[0, place]].item())
    return found


def _min_k(logprobs: list[float]) -> float:
    k = max(1, int(len(logprobs) * 20 / 100))
    return -float(np.mean(np.partition(logprobs, k)[:k]))


def _zlib_ratio(perplexity: float, text: str) -> float:
    content = text.encode()
    return perplexity / (8 * len(zlib.compress(content, level=9)) / len(content))


def _chats(count: int) -> list[Chat]:
    """Authored questions and answers of all domains in turn."""
    pools = [DOMAINS.load(name).pairs(np.random.default_rng(0)) for name in DOMAINS.names()]
    pairs = [pool[i] for i in range(max(map(len, pools))) for pool in pools if i < len(pool)]
    return [((Message(role="user", content=pair.question),), pair.flawed) for pair in pairs[:count]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name, hub id or folder")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--published", type=int, default=24, help="how many of the texts the published loops read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
