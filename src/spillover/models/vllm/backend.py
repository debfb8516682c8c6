"""vLLM for sampling, the Hugging Face backend for everything else, on the same weights.

Sampling uses one engine that serves the base and every adapter. Training, activations and prompts with an intervention
use transformers and PEFT. Only one of the two holds the GPU at a time, and releases its memory before the other starts;
a study switches once a stage.

Scoring uses transformers too: vLLM returns the log-probability and the rank of a prompt's token but not the mean and
deviation of the vocabulary's, which min-k++ needs; with adapters loaded, its CPU build fails at that in 0.32. A scoring
pass is all prefill, where an engine gains little.

A completion draws from its own seed. vLLM samples differently from the hf backend: the same seed gives other words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover.config.study import ModelConfig, SampleConfig
from spillover.errors import MissingExtra, UserError
from spillover.models.protocols import ActivationReader, Generation, Generator, Progress, Prompt, TokenScorer, Trainer
from spillover.registry import resolve

if TYPE_CHECKING:
    from spillover.models.hf.backend import HFBackend
    from spillover.models.vllm.engine import Engine


class VLLMBackend:
    """One base model, in an engine or loaded whole, never both."""

    def __init__(self, config: ModelConfig) -> None:
        from spillover.models.hf.model import find_source, read_tokenizer, revision_of, window_of

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
        import torch

        from spillover.models.hf.model import compute_info

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return compute_info(getattr(torch, self._dtype), device)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in this model's tokens, without special tokens."""
        return [len(ids) for ids in self.token_ids(texts)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """This model's tokens of each text, without special tokens."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]

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
            from spillover.models.hf.backend import open_backend as open_whole

            self.close()
            self._whole = open_whole(self.config)
        return self._whole

    def engine(self, adapter: Path | None) -> Engine:
        """The engine, with room for this adapter; everything else that holds the GPU is released first."""
        from spillover.models.hf.device_memory import give_back
        from spillover.models.hf.model import release
        from spillover.models.vllm.engine import Engine, needed_rank

        self._rank = max(self._rank, needed_rank(adapter))
        if self._engine is None or self._engine.rank < self._rank:
            self.close()
            self._whole = None
            release()
            give_back()
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
        from spillover.models.hf.generate import check_lengths, generation
        from spillover.models.tokens.chat import prompt_ids, stop_ids
        from spillover.models.vllm.engine import Request

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
