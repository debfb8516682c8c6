"""One vLLM engine (Kwon et al., arXiv 2309.06180) for a base model and all of its adapters.

The engine runs in a separate process, which holds the GPU's memory and releases it when it ends. An adapter is
registered on first use, so adapters may be trained while the engine runs. The model's generation_config is never read.
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

RANKS = (8, 16, 32, 64, 128, 256)  # that the engine's kernels support
SHARE = 0.9  # of the free memory of a GPU: the embedded judge needs some as well


@dataclass(frozen=True)
class Request:
    """The tokens of a prompt, and vLLM's SamplingParams for it."""

    tokens: list[int]
    params: Any


class Engine:
    """`rank`: the largest rank of an adapter that fits."""

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
            max_model_len=-1,  # the model's, or what fits
            enable_lora=True,
            max_lora_rank=self.rank,
            gpu_memory_utilization=share,
            enable_chunked_prefill=on_card,  # elsewhere vLLM cannot undo a seeded draw for half a prompt
            disable_log_stats=True,
        )
        self._engine = resolve("vllm:LLMEngine").from_engine_args(arguments)
        self._numbers = count(1)
        self._adapters: dict[tuple[str, int, int], Any] = {}

    def run(self, requests: Sequence[Request], adapter: Path | None) -> Iterator[tuple[int, Any]]:
        """Yield (number of the request, vLLM's RequestOutput) as requests end, in any order."""
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
            if waiting:  # the caller has stopped iterating
                self._engine.abort_request(list(waiting))

    def close(self) -> None:
        """End the engine's process, which releases the memory."""
        self._engine.engine_core.shutdown()

    def _registered(self, folder: Path) -> Any:
        """vLLM's handle of an adapter folder; a folder that was rewritten is another adapter."""
        stamp = (folder / WEIGHTS).stat()
        key = (str(folder.resolve()), stamp.st_mtime_ns, stamp.st_size)
        if key not in self._adapters:
            number = len(self._adapters) + 1
            self._adapters[key] = resolve("vllm.lora.request:LoRARequest")(f"adapter-{number}", number, key[0])
        return self._adapters[key]


def needed_rank(adapter: Path | None) -> int:
    """Rank of an adapter folder, after the checks that loading makes; the smallest without one."""
    rank = RANKS[0] if adapter is None else largest_rank(adapter)
    if rank > RANKS[-1]:
        raise UserError(f"{adapter} has rank {rank}; vLLM supports up to {RANKS[-1]}. Use backend: hf for this study.")
    return rank


def share_of_memory() -> tuple[float, bool]:
    """The share of the GPU's memory that the engine may use, from what is free now; and whether there is a GPU."""
    import torch

    if not torch.cuda.is_available():
        return 0.3, False  # of the machine's memory, in vLLM's CPU build
    free, total = torch.cuda.mem_get_info()
    return SHARE * free / total, True
