"""vLLM (Kwon et al., arXiv 2309.06180) for sampling, the Hugging Face backend for everything else, on the same weights.

Sampling uses one engine that serves the base and every adapter. Training, activations and prompts with an intervention
use transformers and PEFT. Only one of the two holds the GPU at a time, and releases its memory before the other starts;
a study switches once a stage. The engine runs in a separate process, which holds the GPU's memory and releases it when
it ends. An adapter is registered on first use, so adapters may be trained while the engine runs. The model's
generation_config is never read.

Scoring uses transformers too: vLLM returns the log-probability and the rank of a prompt's token but not the mean and
deviation of the vocabulary's, which min-k++ needs; with adapters loaded, its CPU build fails at that in 0.32. A scoring
pass is all prefill, where an engine gains little.

A completion draws from its own seed. vLLM samples differently from the hf backend: the same seed gives other words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import torch

from spillover.config.study import ModelConfig, SampleConfig
from spillover.errors import MissingExtra, UserError
from spillover.models.hf.adapters import WEIGHTS, largest_rank
from spillover.models.hf.device import release_memory
from spillover.models.hf.generate import check_lengths, generation
from spillover.models.hf.model import (
    HFBackend,
    compute_info,
    find_source,
    read_tokenizer,
    release,
    revision_of,
    window_of,
)
from spillover.models.hf.model import open_backend as open_whole
from spillover.models.protocols import ActivationReader, Generation, Generator, Progress, Prompt, TokenScorer, Trainer
from spillover.models.tokens import plain_ids, prompt_ids, stop_ids
from spillover.registry import resolve

RANKS = (8, 16, 32, 64, 128, 256)  # that the engine's kernels support
SHARE = 0.9  # of the free memory of a GPU: the embedded judge needs some as well


class VLLMBackend:
    """One base model, in an engine or loaded whole, never both."""

    def __init__(self, config: ModelConfig) -> None:
        _check(config)
        self.config = config
        self.name = config.path or config.name
        self.source = find_source(config)
        self.tokenizer, settings = read_tokenizer(config, self.source)
        self.revision = revision_of(config, self.source, settings)
        self.window = window_of(settings)
        self._engine: Engine | None = None
        self._whole: HFBackend | None = None
        self._rank = 0  # of the largest adapter so far
        self._dtype = "bfloat16" if config.dtype == "auto" else config.dtype  # of the engine

    @property
    def compute_info(self) -> dict[str, str]:
        """Of the one that holds the GPU."""
        if self._whole is not None:
            return self._whole.compute_info
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return compute_info(getattr(torch, self._dtype), device)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in this model's tokens, without special tokens."""
        return [len(ids) for ids in self.token_ids(texts)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """This model's tokens of each text, without special tokens."""
        return plain_ids(self.tokenizer, texts)

    def trainer(self) -> Trainer:
        return self.whole().trainer()

    def generator(self) -> Generator:
        return VLLMGenerator(self)

    def scorer(self) -> TokenScorer:
        return self.whole().scorer()

    def reader(self) -> ActivationReader:
        return self.whole().reader()

    def whole(self) -> HFBackend:
        """The model through transformers, after ending the engine."""
        if self._whole is None:
            self.close()
            self._whole = open_whole(self.config)
        return self._whole

    def engine(self, adapter: Path | None) -> Engine:
        """The engine, with room for this adapter; everything else that holds the GPU is released first."""
        self._rank = max(self._rank, needed_rank(adapter))
        if self._engine is None or self._engine.rank < self._rank:
            self.close()
            self._whole = None
            release()
            release_memory()
            self._engine = Engine(self.source, self.config.revision, self._dtype, self._rank)
        return self._engine

    def close(self) -> None:
        """End the engine, if one is running."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


class VLLMGenerator:
    """Samples through the engine."""

    def __init__(self, backend: VLLMBackend) -> None:
        self.backend = backend

    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Yield every prompt's completions, in the order (prompt, index), as they become ready.

        Raises:
            UserError: when a prompt and its completion exceed the model's window.
        """
        if any(prompt.intervention for prompt in prompts):
            yield from self.backend.whole().generator().generate(prompts, config, adapter, progress)
            return
        tokenizer = self.backend.tokenizer
        ids = [prompt_ids(tokenizer, prompt.messages) for prompt in prompts]
        check_lengths(ids, config.max_tokens, self.backend.window, self.backend.name)
        stops = stop_ids(tokenizer)
        places = [(number, index) for number, prompt in enumerate(prompts) for index in range(len(prompt.seeds))]
        requests = [
            Request(ids[number], sampling_params(config, prompts[number].seeds[index], stops))
            for number, index in places
        ]
        ready: dict[int, Generation] = {}
        following = 0
        for place, output in self.backend.engine(adapter).run(requests, adapter) if requests else ():
            number, index = places[place]
            tokens = list(output.outputs[0].token_ids)
            progress(len(tokens))
            ready[place] = generation(number, index, len(ids[number]), tokens, tokenizer, stops)
            while following in ready:
                yield ready.pop(following)
                following += 1


def sampling_params(config: SampleConfig, seed: int, stops: frozenset[int]) -> Any:
    """SampleConfig in vLLM's form, without a default for anything that shapes a sample."""
    return resolve("vllm:SamplingParams")(
        n=1,
        seed=seed,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=0,
        min_p=0.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        repetition_penalty=1.0,
        max_tokens=config.max_tokens,
        stop_token_ids=sorted(stops),
        detokenize=False,
        output_kind=resolve("vllm.sampling_params:RequestOutputKind").FINAL_ONLY,
    )


def _check(config: ModelConfig) -> None:
    if find_spec("vllm") is None:
        raise MissingExtra.of("vllm", "vllm")
    if config.options:
        raise UserError(f"models.{config.name}.options: the vllm backend has no options. Remove them.")
    if ":" in config.device:
        raise UserError(
            f"models.{config.name}.device: vLLM uses the first visible GPU. Remove device and set "
            f"CUDA_VISIBLE_DEVICES={config.device.partition(':')[2]}."
        )


def open_backend(config: ModelConfig) -> VLLMBackend:
    """The backend of the base that `config` names; the engine starts with the first prompt."""
    return VLLMBackend(config)


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
    if not torch.cuda.is_available():
        return 0.3, False  # of the machine's memory, in vLLM's CPU build
    free, total = torch.cuda.mem_get_info()
    return SHARE * free / total, True
