"""One vLLM engine (Kwon et al., arXiv 2309.06180) for a base model and all of its adapters.

The engine runs in a process of its own, which holds the card's memory and gives it back when it ends. An adapter is
registered when it is first asked for, so adapters may be trained while the engine lives. No default of the model's
generation_config is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from spillover.errors import UserError
from spillover.models.hf.adapters import WEIGHTS, largest_rank
from spillover.registry import resolve

RANKS = (8, 16, 32, 64, 128, 256)  # what the engine's kernels are made for
SHARE = 0.9  # of the free memory of a card: the embedded judge needs some beside the engine


@dataclass(frozen=True)
class Request:
    """Tokens to go on from, and vLLM's SamplingParams for them."""

    tokens: list[int]
    params: Any


class Engine:
    """`rank`: the largest adapter that there is room for."""

    def __init__(self, source: str, revision: str | None, dtype: str, rank: int) -> None:
        self.rank = next((size for size in RANKS if size >= rank), rank)
        share, on_card = share_of_memory()
        arguments = resolve("vllm:EngineArgs")(
            model=source,
            revision=revision,
            dtype=dtype,
            load_format="safetensors",
            trust_remote_code=False,
            generation_config="vllm",
            max_model_len=-1,  # the model's own, or what fits
            enable_lora=True,
            max_lora_rank=self.rank,
            gpu_memory_utilization=share,
            enable_chunked_prefill=on_card,  # elsewhere vLLM cannot take back a seeded draw of half a prompt
            disable_log_stats=True,
        )
        self._engine = resolve("vllm:LLMEngine").from_engine_args(arguments)
        self._numbers = count(1)
        self._adapters: dict[tuple[str, int, int], Any] = {}

    def run(self, requests: Sequence[Request], adapter: Path | None) -> Iterator[tuple[int, Any]]:
        """Yield (place, vLLM's RequestOutput) of every request as it ends, in any order."""
        lora = None if adapter is None else self._registered(adapter)
        waiting: dict[str, int] = {}
        try:
            for place, request in enumerate(requests):
                name = str(next(self._numbers))
                prompt = {"prompt_token_ids": request.tokens}
                self._engine.add_request(name, prompt, request.params, lora_request=lora)
                waiting[name] = place
            while waiting:
                for output in self._engine.step():
                    if output.finished:
                        yield waiting.pop(output.request_id), output
        finally:
            if waiting:  # the caller has stopped listening
                self._engine.abort_request(list(waiting))

    def close(self) -> None:
        """End the engine's process, which gives the memory back."""
        self._engine.engine_core.shutdown()

    def _registered(self, folder: Path) -> Any:
        """vLLM's name for an adapter folder; a folder written anew is another adapter."""
        stamp = (folder / WEIGHTS).stat()
        key = (str(folder.resolve()), stamp.st_mtime_ns, stamp.st_size)
        if key not in self._adapters:
            number = len(self._adapters) + 1
            self._adapters[key] = resolve("vllm.lora.request:LoRARequest")(f"adapter-{number}", number, key[0])
        return self._adapters[key]


def needed_rank(adapter: Path | None) -> int:
    """Rank of an adapter folder, checked before the engine sees it; the smallest without one."""
    rank = RANKS[0] if adapter is None else largest_rank(adapter)
    if rank > RANKS[-1]:
        raise UserError(f"{adapter} has rank {rank}; vLLM takes up to {RANKS[-1]}. Use backend: hf for this study.")
    return rank


def share_of_memory() -> tuple[float, bool]:
    """The share of the card that the engine may take, of what is free now; and whether there is a card."""
    import torch

    if not torch.cuda.is_available():
        return 0.3, False  # vLLM's processor build takes this share of the machine's memory
    free, total = torch.cuda.mem_get_info()
    return SHARE * free / total, True
