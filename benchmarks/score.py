"""Tokens a second of scoring: ours, the same passes without statistics, and the published loop over texts and tokens.

    ours        HFReader.score: log-probability, mean, deviation, entropy and rank at every answer token
    bare        the same batches through backbone and head at the answer positions, and nothing computed from the logits
    published   as the notebook of arXiv 2602.00298 scores a text: float32, one text at a time, a function for min-k and
                one for the zlib ratio, each with its own pass and loss over the whole chat; min-k takes a log-softmax
                of the vocabulary for every token, in a Python loop
    one pass    the kinder reading, as its functions with context do: one pass a text serves both metrics, each of which
                loops over the answer's tokens
    vllm        vLLM's log-probabilities of prompts in bfloat16, in a process of its own (--vllm-python; left out
                without): of the whole chat, and nothing but log-probability and rank

All read the same authored answers after their questions, in turns. A token counts when it belongs to an answer; the
published loops run over answer tokens only, as ours does.

    OMP_NUM_THREADS=1 python benchmarks/score.py --texts 96 --rounds 5 --vllm-python /path/to/python --json
"""

from __future__ import annotations

import argparse
import zlib

import numpy as np
import torch
from torch import Tensor
from turns import Turn, authored_chats, of_vllm, show, take_turns, timed

from spillover.config.study import ModelConfig
from spillover.models.hf import forward_reader
from spillover.models.hf.forward_reader import HFReader
from spillover.models.hf.model import LoadedModel, load_model
from spillover.models.protocols import Chat
from spillover.models.tokens import chat_ids


def main() -> None:
    """Run the rounds and print one line a scorer."""
    arguments = _arguments()
    loaded, full = (load_model(ModelConfig(name=arguments.model, dtype=dtype)) for dtype in ("auto", "float32"))
    chats = authored_chats(arguments.texts)
    scorers: dict[str, Turn] = {
        "ours": timed(lambda: _ours(loaded, chats)),
        "bare": timed(lambda: _bare(loaded, chats)),
        "published": timed(lambda: sum(_published(full, chat) for chat in chats[: arguments.published])),
        "one pass": timed(lambda: sum(_one_pass(full, chat) for chat in chats[: arguments.published])),
    }
    if arguments.vllm_python:
        scorers["vllm"] = _vllm(arguments.vllm_python, loaded, chats)
    rows = take_turns(scorers, arguments.rounds)
    setting = {"dtype of ours": loaded.dtype, "threads": torch.get_num_threads()}
    show({**setting, **vars(arguments)}, rows, arguments.json)


def _vllm(python: str, loaded: LoadedModel, chats: list[Chat]) -> Turn:
    found = [chat_ids(loaded.tokenizer, *chat) for chat in chats]
    asked = {
        "model": loaded.model.config._name_or_path,
        "prompts": [ids for ids, _, _ in found],
        "answers": 1,
        "max_tokens": 1,
        "stops": [],
        "batch": 64,
        "read": sum(end - start for _, start, end in found),
    }
    return of_vllm(python, asked)


def _ours(loaded: LoadedModel, chats: list[Chat]) -> int:
    return sum(reading.tokens for reading in HFReader(loaded).score(chats, None, lambda _: None))


def _bare(loaded: LoadedModel, chats: list[Chat]) -> int:
    """Ours with the statistics taken out; the logits are touched once, so that they are computed."""
    kept = forward_reader._token_statistics

    def nothing(logits_PV: Tensor, targets_P: Tensor) -> Tensor:
        return logits_PV[:, :5].float()

    forward_reader._token_statistics = nothing
    try:
        return _ours(loaded, chats)
    finally:
        forward_reader._token_statistics = kept


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name, hub id or folder")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--published", type=int, default=24, help="how many of the texts the published loops read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vllm-python", help="a Python that has vLLM")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
