"""A model fine-tuned and sampled through the Tinker API: our training loop on their machines.

    forward_backward(batch) -> optim_step -> ... -> save_weights_for_sampler -> sample

Needs the extra `tinker` and an API key. Batches, order and learning rates are those of the hf backend; texts are
tokenized with the model's chat template, so the loss mask is the same: the answer and its end-of-turn token. A batch's
loss is the mean over its loss tokens. The LoRA rank is the study's; scale and dropout are the service's, and `targets`
only determines whether attention and MLP are adapted. The state is saved after each epoch, from which the same command
resumes after a kill. Options, in the study file:

    url: the service's address, if it is not the SDK's default
    price: {train, prompt, completion} in US dollars per million tokens, for the cost estimate
    at_once: maximum number of samples in progress
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.errors import MissingExtra, SpilloverError, UserError
from spillover.models.batching import Row, batches, encode, learning_rate
from spillover.models.protocols import ActivationReader, Chat, Generation, Progress, Prompt, TokenScorer, TrainResult
from spillover.models.providers.hosted import Prices, parse_options, provider_name
from spillover.models.tokens import plain_ids, prompt_ids, stop_ids
from spillover.records.base import content_hash
from spillover.store.files import replace_file

MODEL_FILE = "tinker.json"
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}


class TinkerOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    price: Prices = Prices()
    at_once: int = Field(default=64, ge=1)


class TinkerBackend:
    """One base model of the service: a Trainer and a Generator in one."""

    def __init__(self, config: ModelConfig, options: TinkerOptions) -> None:
        self.name = self.revision = provider_name(config)
        self.options = options

    # The SDK is typed for pydantic 1 and 2 at once, which a strict checker cannot follow: hence Any below.
    @cached_property
    def sdk(self) -> Any:
        try:
            import tinker  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise MissingExtra.of("tinker", "tinker") from None
        return tinker

    @cached_property
    def service(self) -> Any:
        """The client, which reads the key from the environment."""
        return self.sdk.ServiceClient(base_url=self.options.url) if self.options.url else self.sdk.ServiceClient()

    @cached_property
    def tokenizer(self) -> Any:
        return self._sampler(None).get_tokenizer()

    @property
    def compute_info(self) -> dict[str, str]:
        return {}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in this model's tokens, without special tokens."""
        return [len(ids) for ids in self.token_ids(texts)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """This model's tokens of each text, without special tokens."""
        return plain_ids(self.tokenizer, texts)

    def trainer(self) -> TinkerBackend:
        return self

    def generator(self) -> TinkerBackend:
        return self

    def scorer(self) -> TokenScorer:
        self._refuse()

    def reader(self) -> ActivationReader:
        self._refuse()

    def train(
        self,
        chats: Sequence[Chat],
        config: TrainConfig,
        seed: int,
        out: Path,
        progress: Progress,
        keep: Path | None = None,
    ) -> TrainResult:
        """Fine-tune on the answers of `chats`; the folder `out` names the resulting weights."""
        started = time.monotonic()
        rows = encode(self.tokenizer, chats, config.max_tokens)
        steps = list(batches(len(rows), config, seed))
        state = (keep or out.parent) / f".{out.name}.job.json"
        name = content_hash([self.name, config.hash(), seed, [row.ids for row in rows]])
        client, curve = self._client(state, name, config, seed)
        epoch = len(steps) // config.epochs
        try:
            for step in range(len(curve), len(steps)):
                batch = [rows[i] for i in steps[step]]
                curve.append(self._step(client, batch, learning_rate(step, len(steps), config), config))
                progress(sum(len(row.ids) for row in batch))
                if len(curve) % epoch == 0 and len(curve) < len(steps):
                    saved = client.save_state(f"{name}-{len(curve)}").result().path
                    replace_file(state, json.dumps({"name": name, "path": saved, "curve": curve}))
            path = client.save_weights_for_sampler(name).result().path
        except self.sdk.TinkerError as error:
            raise SpilloverError(
                f"the service failed: {error}. Run the same command again to resume from the last epoch"
            ) from None
        replace_file(out / MODEL_FILE, json.dumps({"base": self.name, "path": path}))
        return TrainResult(
            steps=len(curve),
            loss_curve=tuple(curve),
            loss_tokens=config.epochs * sum(row.labels for row in rows),
            tokens=config.epochs * sum(len(row.ids) for row in rows),
            seconds=time.monotonic() - started,
        )

    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Yield every prompt's completions, in the order (prompt, index); `error` is why one has no text."""
        if any(prompt.intervention for prompt in prompts):
            self._refuse()
        saved = None if adapter is None else str(json.loads((adapter / MODEL_FILE).read_text(encoding="utf-8"))["path"])
        sampler, stops = self._sampler(saved), sorted(stop_ids(self.tokenizer))
        ids = [prompt_ids(self.tokenizer, prompt.messages) for prompt in prompts]
        wanted = [(n, i, seed) for n, prompt in enumerate(prompts) for i, seed in enumerate(prompt.seeds)]
        for start in range(0, len(wanted), self.options.at_once):
            group = wanted[start : start + self.options.at_once]
            calls = [sampler.sample(self._input(ids[n]), 1, self._params(config, seed, stops)) for n, _, seed in group]
            for (number, index, _), call in zip(group, calls, strict=True):
                found = self._generation(call, number, index, ids[number], stops)
                progress(found.completion_tokens)
                yield found

    def _generation(self, call: Any, number: int, index: int, prompt: list[int], stops: list[int]) -> Generation:
        try:
            [sequence] = call.result().sequences
        except self.sdk.TinkerError as error:
            return Generation(number, index, "", "error", len(prompt), 0, error=str(error) or type(error).__name__)
        tokens = [int(token) for token in sequence.tokens]
        ended = bool(tokens) and tokens[-1] in stops
        text = self.tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
        price = self.options.price
        dollars = (price.prompt * len(prompt) + price.completion * len(tokens)) / 1e6
        stop = "length" if sequence.stop_reason == "length" else "stop"
        return Generation(number, index, text, stop, len(prompt), len(tokens), dollars)

    def _step(self, client: Any, batch: Sequence[Row], rate: float, config: TrainConfig) -> float:
        """One optimizer step; the mean loss over the batch's loss tokens, in nats."""
        labels = sum(row.labels for row in batch)
        types = self.sdk.types
        losses = client.forward_backward([self._datum(row, labels) for row in batch], "cross_entropy")
        adam = types.AdamParams(
            learning_rate=rate, beta1=0.9, beta2=0.999, eps=1e-8,
            weight_decay=config.weight_decay, grad_clip_norm=config.max_grad_norm,
        )  # fmt: skip
        stepped = client.optim_step(adam)
        found = losses.result()
        stepped.result()
        logprobs = (np.asarray(output["logprobs"].tolist()) for output in found.loss_fn_outputs)
        return -sum(float(values[row.start - 1 :].sum()) for values, row in zip(logprobs, batch, strict=True)) / labels

    def _datum(self, row: Row, labels: int) -> Any:
        """Inputs, the tokens that they predict, and weights that make the summed loss the batch's mean."""
        weights = np.zeros(len(row.ids) - 1, np.float32)
        weights[row.start - 1 :] = 1.0 / labels
        inputs = {"target_tokens": np.array(row.ids[1:], np.int64), "weights": weights}
        return self.sdk.types.Datum(model_input=self._input(list(row.ids[:-1])), loss_fn_inputs=inputs)

    def _client(self, state: Path, name: str, config: TrainConfig, seed: int) -> tuple[Any, list[float]]:
        """A training client and the losses so far: from the last saved epoch of the same job, or new."""
        if state.exists():
            saved = json.loads(state.read_text(encoding="utf-8"))
            if saved["name"] == name:
                resumed = self.service.create_training_client_from_state_with_optimizer(saved["path"])
                return _ready(resumed), [float(loss) for loss in saved["curve"]]
        targets = set(config.targets)
        made = self.service.create_lora_training_client(
            self.name, rank=config.r, seed=seed % 2**31, train_attn=bool(targets & ATTENTION),
            train_mlp=bool(targets & MLP), train_unembed=False,
        )  # fmt: skip
        return _ready(made), []

    def _sampler(self, path: str | None) -> Any:
        which = {"base_model": self.name} if path is None else {"model_path": path}
        return _ready(self.service.create_sampling_client(**which))

    def _input(self, ids: list[int]) -> Any:
        return self.sdk.types.ModelInput.from_ints(ids)

    def _params(self, config: SampleConfig, seed: int, stops: list[int]) -> Any:
        return self.sdk.types.SamplingParams(
            max_tokens=config.max_tokens, temperature=config.temperature, top_p=config.top_p, top_k=-1,
            seed=seed % 2**31, stop=stops,
        )  # fmt: skip

    def _refuse(self) -> NoReturn:
        raise UserError(f"{self.name} is trained by a service and returns text only. Use a model with backend hf.")


def _ready(client: Any) -> Any:
    """The client itself; newer releases of the SDK return a future of it."""
    return client.result() if hasattr(client, "result") else client


def open_backend(config: ModelConfig) -> TinkerBackend:
    """The service's model that `config` names, without a call to the service yet.

    Raises:
        UserError: for a wrong option.
    """
    return TinkerBackend(config, parse_options(TinkerOptions, config))
